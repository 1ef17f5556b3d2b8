// Threads that allocate more than the heap holds, and two that talk over a socket; what it prints depends on its arguments alone.
import java.io.*;
import java.net.*;
import java.util.*;
import java.util.concurrent.*;

public class Threads {
    static long mix(long x) {
        x ^= x >>> 33; x *= 0xff51afd7ed558ccdL; x ^= x >>> 33; x *= 0xc4ceb9fe1a85ec53L;
        return x ^ x >>> 33;
    }

    // Maps that live over many collections, strings that do not.
    static long churn(int seed, int rounds) {
        Map<String, long[]> kept = new HashMap<>();
        long sum = 0;
        for (int i = 0; i < rounds; i++) {
            long r = mix(seed * 1000003L + i);
            String key = "k" + Math.floorMod(r, 3000);
            long[] values = kept.computeIfAbsent(key, k -> new long[200]);
            for (int j = 0; j < values.length; j++) values[j] += mix(r + j) & 0xffff;
            StringBuilder text = new StringBuilder();
            for (int j = 0; j < 60; j++) text.append(Long.toHexString(mix(r ^ j)));
            sum = mix(sum + text.toString().hashCode() + values[Math.floorMod((int) r, 200)]);
            if (i % 1000 == 999) kept.keySet().removeIf(k -> k.hashCode() % 7 == 3);
        }
        for (String key : new TreeSet<>(kept.keySet())) sum = mix(sum + key.hashCode() + Arrays.hashCode(kept.get(key)));
        return sum;
    }

    static long talk(Socket socket, int rounds, boolean first) throws IOException {
        DataInputStream in = new DataInputStream(new BufferedInputStream(socket.getInputStream()));
        DataOutputStream out = new DataOutputStream(new BufferedOutputStream(socket.getOutputStream()));
        long sum = first ? 1 : 2;
        byte[] block = new byte[5000];
        for (int i = 0; i < rounds; i++) {
            if (first || i > 0) { new Random(sum).nextBytes(block); out.writeLong(sum); out.write(block); out.flush(); }
            long theirs = in.readLong();
            in.readFully(block);
            sum = mix(sum ^ theirs ^ Arrays.hashCode(block));
        }
        if (!first) { out.writeLong(sum); out.write(block); out.flush(); }
        return sum;
    }

    public static void main(String[] a) throws Exception {
        int steps = Integer.parseInt(a[0]);
        ExecutorService pool = Executors.newFixedThreadPool(5);
        for (int step = 0; step < steps; step++) {
            List<Future<Long>> parts = new ArrayList<>();
            for (int t = 0; t < 4; t++) { int seed = step * 10 + t; parts.add(pool.submit(() -> churn(seed, 1500))); }
            try (ServerSocket listener = new ServerSocket(0, 5, InetAddress.getLoopbackAddress())) {
                Future<Long> server = pool.submit(() -> { try (Socket s = listener.accept()) { return talk(s, 60, false); } });
                try (Socket s = new Socket(listener.getInetAddress(), listener.getLocalPort())) { parts.add(CompletableFuture.completedFuture(talk(s, 60, true))); }
                parts.add(server);
            }
            Thread.sleep(1);
            StringBuilder line = new StringBuilder("step " + step + ":");
            for (Future<Long> f : parts) line.append(' ').append(Long.toHexString(f.get()));
            System.out.println(line);
        }
        pool.shutdown();
        System.out.println(pool.awaitTermination(10, TimeUnit.SECONDS) ? "done" : "threads are left");
    }
}
