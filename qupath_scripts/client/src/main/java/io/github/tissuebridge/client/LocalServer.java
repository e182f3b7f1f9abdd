package io.github.tissuebridge.client;

import java.io.IOException;
import java.net.URISyntaxException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * The server on this machine: found, or started with the Python that {@code tissuebridge install-qupath} noted beside this
 * jar. A server that was started here ends with this program.
 */
final class LocalServer {

    private static final long PATIENCE_S = 90;
    private static final Pattern TEXT = Pattern.compile("\"((?:[^\"\\\\]|\\\\.)*)\"");

    private static Process started;

    private LocalServer() { }

    /** The running server, or one that is started now. */
    static synchronized Discovery find() throws TissuebridgeException, InterruptedException {
        Path file = Discovery.defaultPath();
        if (Files.exists(file)) {
            Discovery found = Discovery.read(file);
            if (answers(found)) {
                return found;
            }
        }
        Path note = note();
        if (note == null) {
            return Discovery.read(file);
        }
        return start(command(note), file);
    }

    private static boolean answers(Discovery found) throws TissuebridgeException {
        try (Client client = Client.connect(found.address(), found.token(), null)) {
            client.models();
            return true;
        } catch (TissuebridgeException error) {
            if (error.kind().equals("ServerUnreachable")) {
                return false; // killed, and its file was left
            }
            throw error;
        }
    }

    private static Discovery start(List<String> command, Path file) throws TissuebridgeException, InterruptedException {
        Path log = null;
        try {
            log = Files.createTempFile("tissuebridge-server", ".log");
            Files.deleteIfExists(file);
            started = new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(log.toFile()).start();
        } catch (IOException error) {
            throw new TissuebridgeException("ServerUnreachable", "The server cannot be started with " + command.get(0)
                    + ": " + error.getMessage() + ". Was Python moved? Run: tissuebridge install-qupath", error);
        }
        Process process = started;
        Runtime.getRuntime().addShutdownHook(new Thread(process::destroy));
        long giveUp = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_S);
        while (process.isAlive() && System.nanoTime() < giveUp) {
            if (Files.exists(file)) {
                return Discovery.read(file);
            }
            try {
                Thread.sleep(100);
            } catch (InterruptedException error) {
                process.destroy();
                throw error;
            }
        }
        process.destroy();
        throw new TissuebridgeException("ServerUnreachable", "The server did not start: " + last(log)
                + " Try it by hand: tissuebridge serve", null);
    }

    /** What install-qupath noted, beside the jar that this class is in; null where it did not. */
    private static Path note() {
        try {
            Path jar = Path.of(LocalServer.class.getProtectionDomain().getCodeSource().getLocation().toURI());
            Path note = jar.resolveSibling("tissuebridge-python.json");
            return Files.exists(note) ? note : null;
        } catch (URISyntaxException | NullPointerException | IllegalArgumentException error) {
            return null;
        }
    }

    /** The command that starts the server: {@code PYTHON -m tissuebridge serve [--model DIR]...}. */
    static List<String> command(Path note) throws TissuebridgeException {
        try {
            String text = Files.readString(note);
            List<String> command = new ArrayList<>();
            command.add(texts(text, "\"python\"\\s*:\\s*(\"(?:[^\"\\\\]|\\\\.)*\")").get(0));
            command.addAll(List.of("-m", "tissuebridge", "serve", "--port", "0"));
            for (String model : texts(text, "\"models\"\\s*:\\s*(\\[[^\\]]*\\])")) {
                command.add("--model");
                command.add(model);
            }
            return command;
        } catch (IOException | IndexOutOfBoundsException error) {
            throw new TissuebridgeException("ServerUnreachable", note + ": damaged. Run: tissuebridge install-qupath", error);
        }
    }

    private static List<String> texts(String json, String where) {
        List<String> found = new ArrayList<>();
        Matcher place = Pattern.compile(where).matcher(json);
        if (place.find()) {
            Matcher text = TEXT.matcher(place.group(1));
            while (text.find()) {
                found.add(text.group(1).replaceAll("\\\\(.)", "$1"));
            }
        }
        return found;
    }

    private static String last(Path log) {
        try {
            List<String> lines = Files.readAllLines(log);
            return String.join(" ", lines.subList(Math.max(0, lines.size() - 5), lines.size()));
        } catch (IOException error) {
            return error.getMessage();
        }
    }
}
