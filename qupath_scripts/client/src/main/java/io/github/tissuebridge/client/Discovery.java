package io.github.tissuebridge.client;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.Locale;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * The file in which a running server says where it is and what its token is.
 *
 * @param address HOST:PORT
 * @param token what clients show
 * @param version the server's
 */
public record Discovery(String address, String token, String version) {

    // The server writes one flat object of texts and one number; a library for that would be in everybody's way.
    private static final Pattern ENTRY = Pattern.compile("\"(address|token|version)\"\\s*:\\s*\"((?:[^\"\\\\]|\\\\.)*)\"");

    /** Where the file lies: in the user's own place for the state of programs. */
    public static Path defaultPath() {
        String system = System.getProperty("os.name", "").toLowerCase(Locale.ROOT);
        Path home = Path.of(System.getProperty("user.home"));
        return pathFor(system, home, System.getenv()).resolve("tissuebridge").resolve("server.json");
    }

    static Path pathFor(String system, Path home, Map<String, String> environment) {
        if (system.contains("win")) {
            String local = environment.get("LOCALAPPDATA");
            return local == null ? home.resolve("AppData").resolve("Local") : Path.of(local);
        }
        if (system.contains("mac")) {
            return home.resolve("Library").resolve("Application Support");
        }
        String state = environment.get("XDG_STATE_HOME");
        return state == null || state.isBlank() ? home.resolve(".local").resolve("state") : Path.of(state);
    }

    /**
     * Reads the file.
     *
     * @throws TissuebridgeException there is none, or it is not a server's
     */
    public static Discovery read(Path path) throws TissuebridgeException {
        String cure = "Start one: tissuebridge serve --model DIR";
        try {
            Map<String, String> found = new java.util.HashMap<>();
            Matcher matcher = ENTRY.matcher(Files.readString(path));
            while (matcher.find()) {
                found.put(matcher.group(1), matcher.group(2).replaceAll("\\\\(.)", "$1"));
            }
            if (!found.keySet().containsAll(java.util.List.of("address", "token", "version"))) {
                throw new TissuebridgeException("ServerUnreachable", path + ": not a server's address. " + cure, null);
            }
            return new Discovery(found.get("address"), found.get("token"), found.get("version"));
        } catch (NoSuchFileException error) {
            throw new TissuebridgeException("ServerUnreachable", "No server is running. " + cure, error);
        } catch (IOException error) {
            throw new TissuebridgeException("ServerUnreachable", path + ": cannot be read: " + error.getMessage(), error);
        }
    }

    @Override
    public String toString() {
        return "Discovery[address=" + address + ", version=" + version + "]";
    }
}
