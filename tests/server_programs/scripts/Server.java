import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.util.concurrent.Executors;

/** Java's HttpServer with four threads on one port, an echo by NIO on another. */
public class Server {
    public static void main(String[] ports) throws Exception {
        echo(Integer.parseInt(ports[1]));
        http(Integer.parseInt(ports[0]));
    }

    static void http(int port) throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress("0.0.0.0", port), 1000);
        server.createContext("/", exchange -> {
            exchange.getRequestBody().readAllBytes();
            byte[] page = new byte[20000];
            exchange.sendResponseHeaders(200, page.length);
            exchange.getResponseBody().write(page);
            exchange.close();
        });
        server.setExecutor(Executors.newFixedThreadPool(4));
        server.start();
    }

    static void echo(int port) throws Exception {
        Selector selector = Selector.open();
        ServerSocketChannel listener = ServerSocketChannel.open();
        listener.bind(new InetSocketAddress("0.0.0.0", port));
        listener.configureBlocking(false);
        listener.register(selector, SelectionKey.OP_ACCEPT);
        Thread thread = new Thread(() -> {
            try {
                while (true) {
                    selector.select(Server::serve);
                }
            } catch (Exception error) {
                error.printStackTrace();
                System.exit(1);
            }
        });
        thread.start();
    }

    static void serve(SelectionKey key) {
        try {
            if (key.isAcceptable()) {
                SocketChannel channel = ((ServerSocketChannel) key.channel()).accept();
                if (channel != null) {
                    channel.configureBlocking(false);
                    ByteBuffer buffer = ByteBuffer.allocateDirect(1 << 16);
                    channel.register(key.selector(), SelectionKey.OP_READ, buffer);
                }
                return;
            }
            SocketChannel channel = (SocketChannel) key.channel();
            ByteBuffer buffer = (ByteBuffer) key.attachment();
            boolean ended = key.isReadable() && channel.read(buffer) < 0;
            buffer.flip();
            channel.write(buffer);
            buffer.compact();
            if (ended && buffer.position() == 0) {
                channel.close();
                return;
            }
            int reads = buffer.hasRemaining() ? SelectionKey.OP_READ : 0;
            int writes = buffer.position() > 0 ? SelectionKey.OP_WRITE : 0;
            key.interestOps(reads | writes);
        } catch (Exception error) {
            error.printStackTrace();
            System.exit(1);
        }
    }
}
