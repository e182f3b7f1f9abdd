package io.github.tissuebridge.client;

import java.util.prefs.BackingStoreException;
import java.util.prefs.Preferences;

/**
 * What all scripts take where their own parameters say nothing: which server, which model. Kept in the user's preferences,
 * as QuPath keeps its own.
 */
public final class Settings {

    private static final Preferences NODE = Preferences.userRoot().node("io/github/tissuebridge");

    private Settings() { }

    /** The model to ask for; "" for the server's only one. */
    public static String model() {
        return NODE.get("model", "");
    }

    /** HOST:PORT of a server; "" for the one on this machine. */
    public static String address() {
        return NODE.get("address", "");
    }

    /** The token of the server at {@link #address}. */
    public static String token() {
        return NODE.get("token", "");
    }

    /** Keeps a model's name. */
    public static void keepModel(String name) throws TissuebridgeException {
        keep("model", name);
    }

    /** Keeps a server; "" for the one on this machine. */
    public static void keepServer(String address, String token) throws TissuebridgeException {
        keep("address", address);
        keep("token", address.isEmpty() ? "" : token);
    }

    private static void keep(String key, String value) throws TissuebridgeException {
        try {
            if (value.isEmpty()) {
                NODE.remove(key);
            } else {
                NODE.put(key, value);
            }
            NODE.flush();
        } catch (BackingStoreException error) {
            throw new TissuebridgeException("StorageError", "Your preferences cannot be written: " + error.getMessage(), error);
        }
    }
}
