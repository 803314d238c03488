// Queues a file for a model, and prints the answer: java Producer.java HOST:PORT PASSWORD MODEL FILE [TYPE]
// Without a library: Redis' protocol is a few lines. With Jedis it is jedis.xadd(...) and jedis.xread(...).

import java.io.*;
import java.net.Socket;
import java.nio.file.*;
import java.util.*;

public class Producer {
    private final DataInputStream in;
    private final OutputStream out;

    Producer(Socket socket) throws IOException {
        in = new DataInputStream(new BufferedInputStream(socket.getInputStream()));
        out = new BufferedOutputStream(socket.getOutputStream());
    }

    public static void main(String[] given) throws Exception {
        String[] address = given[0].split(":");
        String model = given[2], type = given.length > 4 ? given[4] : "", answers = "answers:" + UUID.randomUUID();
        try (Socket socket = new Socket(address[0], Integer.parseInt(address[1]))) {
            Producer redis = new Producer(socket);
            redis.ask("AUTH", given[1]);
            redis.ask("XADD", "marq:{" + model + "}:normal:1.0", "*", "type", type, "reply", answers,
                "body", Files.readAllBytes(Path.of(given[3])));
            Object streams = redis.ask("XREAD", "BLOCK", "60000", "STREAMS", answers, "0");
            redis.ask("DEL", answers);
            if (streams == null) {
                throw new IOException("No answer.");
            }
            List<?> fields = list(list(list(list(list(streams).get(0)).get(1)).get(0)).get(1));
            Map<String, byte[]> reply = new HashMap<>();
            for (int i = 0; i < fields.size(); i += 2) {
                reply.put(new String((byte[]) fields.get(i)), (byte[]) fields.get(i + 1));
            }
            System.out.write(reply.get("body"));
            System.out.flush();
            System.exit(new String(reply.get("status")).equals("200") ? 0 : 1);
        }
    }

    /** Sends one command, and reads its reply: a text, a number, bytes, a list of them, or null. */
    Object ask(Object... parts) throws IOException {
        out.write(("*" + parts.length + "\r\n").getBytes());
        for (Object part : parts) {
            byte[] bytes = part instanceof byte[] ? (byte[]) part : part.toString().getBytes("UTF-8");
            out.write(("$" + bytes.length + "\r\n").getBytes());
            out.write(bytes);
            out.write("\r\n".getBytes());
        }
        out.flush();
        return read();
    }

    private Object read() throws IOException {
        String line = in.readLine(), rest = line.substring(1);
        switch (line.charAt(0)) {
            case '-': throw new IOException(rest);
            case ':': return Long.valueOf(rest);
            case '+': return rest;
        }
        int length = Integer.parseInt(rest);
        if (length < 0) {
            return null;
        }
        if (line.charAt(0) == '$') {
            byte[] bytes = in.readNBytes(length);
            in.readNBytes(2);
            return bytes;
        }
        List<Object> found = new ArrayList<>();
        for (int i = 0; i < length; i++) {
            found.add(read());
        }
        return found;
    }

    private static List<?> list(Object value) {
        return (List<?>) value;
    }
}
