# java: a class compiled and run: threads, locks, files and maps of them, sockets on loopback, children, collections of garbage.
set -e
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cd "$directory"
cat >Main.java <<'J'
import java.io.*;
import java.net.*;
import java.nio.ByteBuffer;
import java.nio.channels.*;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.*;

public class Main {
    static int shared;

    static synchronized void add() {
        shared++;
    }

    static void threads() throws Exception {
        Thread[] threads = new Thread[8];
        for (int i = 0; i < threads.length; i++) {
            threads[i] = new Thread(() -> IntStream.range(0, 5000).forEach(n -> add()));
            threads[i].start();
        }
        for (Thread thread : threads) thread.join();
        ExecutorService pool = Executors.newFixedThreadPool(4);
        List<Future<Integer>> results = new ArrayList<>();
        for (int i = 0; i < 20; i++) {
            int n = i;
            results.add(pool.submit(() -> n * n));
        }
        int sum = 0;
        for (Future<Integer> result : results) sum += result.get();
        pool.shutdown();
        System.out.println(shared + " " + sum + " " + pool.awaitTermination(100, TimeUnit.SECONDS));
        System.out.println(IntStream.rangeClosed(1, 200000).parallel().mapToLong(n -> (long) n * n).sum());
        Thread sleeper = new Thread(() -> {
            try {
                Thread.sleep(1000000);
            } catch (InterruptedException e) {
                System.out.println("interrupted");
            }
        });
        sleeper.start();
        sleeper.interrupt();
        sleeper.join();
    }

    static void files() throws Exception {
        Path file = Path.of("numbers");
        Files.write(file, IntStream.range(0, 50000).mapToObj(Integer::toString).collect(Collectors.toList()));
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ, StandardOpenOption.WRITE);
                FileLock lock = channel.lock()) {
            var map = channel.map(FileChannel.MapMode.READ_WRITE, 0, channel.size());
            map.put(0, (byte) 'X');
            map.force();
            System.out.println(lock.isValid() + " " + channel.size());
        }
        try (Stream<String> lines = Files.lines(file)) {
            System.out.println(lines.limit(2).collect(Collectors.toList()));
        }
        Files.createDirectories(Path.of("a/b/c"));
        Files.copy(file, Path.of("a/b/c/copy"));
        Files.createSymbolicLink(Path.of("a/link"), Path.of("b/c/copy"));
        try (Stream<Path> walk = Files.walk(Path.of("a"))) {
            System.out.println(walk.map(Path::toString).sorted().collect(Collectors.toList()));
        }
        System.out.println(Files.getAttribute(Path.of("a/link"), "unix:size") + " " + Files.readSymbolicLink(Path.of("a/link")));
        try {
            Files.delete(Path.of("a"));
        } catch (DirectoryNotEmptyException e) {
            System.out.println(e);
        }
        try (WatchService watch = FileSystems.getDefault().newWatchService()) {
            Path.of("a").register(watch, StandardWatchEventKinds.ENTRY_CREATE);
            Files.createFile(Path.of("a/new"));
            System.out.println(watch.take().pollEvents().get(0).context());
        }
    }

    static void sockets() throws Exception {
        try (ServerSocket server = new ServerSocket(0, 50, InetAddress.getLoopbackAddress())) {
            Thread accepting = new Thread(() -> {
                for (int i = 0; i < 10; i++) {
                    try (Socket peer = server.accept()) {
                        peer.getInputStream().transferTo(peer.getOutputStream());
                    } catch (IOException e) {
                        System.out.println(e);
                    }
                }
            });
            accepting.start();
            AtomicLong received = new AtomicLong();
            for (int i = 0; i < 10; i++) {
                try (Socket socket = new Socket(server.getInetAddress(), server.getLocalPort())) {
                    socket.getOutputStream().write(new byte[1000 * i]);
                    socket.shutdownOutput();
                    received.addAndGet(socket.getInputStream().readAllBytes().length);
                }
            }
            accepting.join();
            System.out.println(received);
        }
        try (Selector selector = Selector.open(); ServerSocketChannel server = ServerSocketChannel.open()) {
            server.bind(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0)).configureBlocking(false);
            server.register(selector, SelectionKey.OP_ACCEPT);
            SocketChannel client = SocketChannel.open(server.getLocalAddress());
            System.out.println(selector.select());
            SocketChannel peer = server.accept();
            peer.write(ByteBuffer.wrap("by channel".getBytes()));
            peer.close();
            System.out.println(new String(Channels.newInputStream(client).readAllBytes()));
        }
    }

    static void children() throws Exception {
        Process sort = new ProcessBuilder("sh", "-c", "sort -n; exit 4").redirectErrorStream(true).start();
        try (Writer writer = new OutputStreamWriter(sort.getOutputStream())) {
            for (int i = 1000; i > 0; i--) writer.write(i + "\n");
        }
        System.out.println(new String(sort.getInputStream().readAllBytes()).lines().limit(3).collect(Collectors.toList()));
        System.out.println(sort.waitFor());
        Process sleep = new ProcessBuilder("sleep", "1000").start();
        sleep.destroy();
        System.out.println(sleep.waitFor());
        try {
            new ProcessBuilder("/no/such/program").start();
        } catch (IOException e) {
            System.out.println(e.getMessage());
        }
    }

    static int depth(int n) {
        return depth(n + 1) + 1;
    }

    static void memory() {
        Map<Integer, byte[]> kept = new HashMap<>();
        for (int i = 0; i < 20000; i++) kept.put(i % 100, new byte[5000]);
        System.gc();
        System.out.println(kept.size());
        // Faults of the program's own, which the runtime turns into exceptions.
        try {
            depth(0);
        } catch (StackOverflowError e) {
            System.out.println(e.getClass());
        }
        try {
            Object nothing = System.getProperty("no.such.property");
            for (int i = 0; i < 20000; i++) nothing.hashCode();
        } catch (NullPointerException e) {
            System.out.println(e.getClass());
        }
        try {
            System.out.println(new long[Integer.MAX_VALUE - 2].length);
        } catch (OutOfMemoryError e) {
            System.out.println(e.getClass());
        }
    }

    public static void main(String[] arguments) throws Exception {
        threads();
        files();
        sockets();
        children();
        memory();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("hook")));
        System.exit(6);
    }
}
J
javac Main.java
ls ./*.class
java -Xmx200m Main
