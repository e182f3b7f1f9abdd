package io.github.tissuebridge.client;

import java.io.IOException;
import java.io.InputStream;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.util.List;

/**
 * The part of the scripts that knows QuPath's classes: Groovy sources in this jar, compiled by QuPath's own Groovy, so that
 * one jar serves every version of QuPath.
 */
public final class Scripts {

    // Each builds upon those before it; Groovy compiles a class that it meets by name only where it knows it.
    private static final List<String> SOURCES = List.of("objects.groovy", "pixels.groovy", "picture.groovy", "progress.groovy",
            "results.groovy", "features.groovy", "care.groovy", "candidates.groovy", "review.groovy", "analysis.groovy", "thresholds.groovy",
            "training.groovy", "spatial.groovy", "tissuebridge.groovy");

    private static Class<?> loaded;

    private Scripts() { }

    /**
     * The class {@code tissuebridge.Tissuebridge}; compiled once in a session.
     *
     * @param scriptLoader the class loader of the script that asks, which knows QuPath and Groovy
     * @throws TissuebridgeException this QuPath's Groovy does not take the sources
     */
    public static synchronized Class<?> load(ClassLoader scriptLoader) throws TissuebridgeException {
        if (loaded == null) {
            try {
                Class<?> kind = Class.forName("groovy.lang.GroovyClassLoader", true, scriptLoader);
                Object groovy = kind.getConstructor(ClassLoader.class).newInstance(scriptLoader);
                Method parse = kind.getMethod("parseClass", String.class, String.class);
                for (String source : SOURCES) {
                    loaded = (Class<?>) parse.invoke(groovy, text(source), "tissuebridge_" + source);
                }
            } catch (InvocationTargetException error) {
                loaded = null;
                throw new TissuebridgeException("ClientError", "These scripts do not fit this QuPath: "
                        + error.getCause() + ". Install the newest: tissuebridge install-qupath", error.getCause());
            } catch (ReflectiveOperationException | IOException error) {
                loaded = null;
                throw new TissuebridgeException("ClientError", "The client's jar is damaged: " + error, error);
            }
        }
        return loaded;
    }

    private static String text(String source) throws IOException {
        try (InputStream stream = Scripts.class.getResourceAsStream("/tissuebridge/" + source)) {
            if (stream == null) {
                throw new IOException(source + " is not in it");
            }
            return new String(stream.readAllBytes(), StandardCharsets.UTF_8);
        }
    }
}
