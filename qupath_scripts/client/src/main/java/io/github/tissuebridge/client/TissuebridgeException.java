package io.github.tissuebridge.client;

/** What went wrong, with the cure, in words for the person who runs the script. */
public final class TissuebridgeException extends Exception {

    private static final long serialVersionUID = 1L;

    private final String kind;

    /**
     * @param kind name of the error
     * @param message what is wrong, where, and the cure
     * @param cause kept as suppressed, or null
     */
    public TissuebridgeException(String kind, String message, Throwable cause) {
        super(message);
        if (cause != null) {
            // Not as the cause: QuPath shows the innermost cause's message, and the cure would be lost.
            addSuppressed(cause);
        }
        this.kind = kind;
    }

    /**
     * The name of the error on the server's side, such as {@code ModelError}; {@code ServerUnreachable} where nobody
     * answered.
     */
    public String kind() {
        return kind;
    }
}
