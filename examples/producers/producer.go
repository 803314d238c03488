// Queues a file for a model with redigo, and prints the answer: go run producer.go REDIS_URL MODEL FILE [TYPE]
package main

import (
	"fmt"
	"os"
	"time"

	"github.com/gomodule/redigo/redis"
)

const longest = 60 * time.Second

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(given []string) error {
	url, model, file, kind := given[0], given[1], given[2], ""
	if len(given) > 3 {
		kind = given[3]
	}
	body, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	connection, err := redis.DialURL(url, redis.DialReadTimeout(longest+time.Second))
	if err != nil {
		return err
	}
	defer connection.Close()
	answers := fmt.Sprintf("answers:%d:%d", os.Getpid(), time.Now().UnixNano())
	lane := fmt.Sprintf("marq:{%s}:normal:1.0", model)
	if _, err = connection.Do("XADD", lane, "*", "type", kind, "reply", answers, "body", body); err != nil {
		return err
	}
	defer connection.Do("DEL", answers)
	streams, err := redis.Values(connection.Do("XREAD", "BLOCK", longest.Milliseconds(), "STREAMS", answers, "0"))
	if err != nil {
		return err // redis.ErrNil: no answer in time
	}
	stream, _ := redis.Values(streams[0], nil)
	entries, _ := redis.Values(stream[1], nil)
	entry, _ := redis.Values(entries[0], nil)
	reply, err := redis.StringMap(entry[1], nil)
	if err != nil {
		return err
	}
	fmt.Print(reply["body"])
	if reply["status"] != "200" {
		return fmt.Errorf("status %s", reply["status"])
	}
	return nil
}
