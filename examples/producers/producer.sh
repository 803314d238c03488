#!/bin/sh
# Queues a file for a model with redis-cli, and prints the answer: producer.sh REDIS_URL MODEL FILE [TYPE]
# The answer must be text; headers are printed before it.
set -e
url=$1 model=$2 file=$3 type=$4
answers=answers:$(cat /proc/sys/kernel/random/uuid)
redis-cli -u "$url" -x XADD "marq:{$model}:normal:1.0" '*' type "$type" reply "$answers" body <"$file" >/dev/null
redis-cli -u "$url" --raw XREAD BLOCK 60000 STREAMS "$answers" 0 | sed -e '1,2d'
redis-cli -u "$url" DEL "$answers" >/dev/null
