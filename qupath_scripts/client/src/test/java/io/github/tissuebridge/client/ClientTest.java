package io.github.tissuebridge.client;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.awt.Color;
import java.awt.Graphics2D;
import java.awt.image.BufferedImage;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.imageio.ImageIO;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Against the real server, which the test starts: {@code TISSUEBRIDGE} names the command, else it is looked for. */
class ClientTest {

    private static final String COMMAND = System.getenv().getOrDefault("TISSUEBRIDGE", "tissuebridge");
    private static final int SIDE = 400;

    private static final int[][] SPOTS = spots();

    @TempDir
    static Path folder;

    private static Process server;
    private static Discovery found;
    private static BufferedImage image;

    @BeforeAll
    static void start() throws Exception {
        image = nuclei();
        ImageIO.write(image, "png", Files.createDirectories(folder.resolve("images")).resolve("drawn.png").toFile());
        Path discovery = folder.resolve("tissuebridge").resolve("server.json");
        ProcessBuilder serve = new ProcessBuilder(COMMAND, "serve", "--port", "0")
                .redirectErrorStream(true).redirectOutput(folder.resolve("server.log").toFile());
        // Beside the user's own server, if one runs.
        serve.environment().put("XDG_STATE_HOME", folder.toString());
        serve.environment().put("XDG_DATA_HOME", folder.toString());
        try {
            server = serve.start();
        } catch (IOException error) {
            assumeTrue(false, COMMAND + " is not installed: " + error.getMessage());
        }
        for (int i = 0; i < 600 && !Files.exists(discovery) && server.isAlive(); i++) {
            Thread.sleep(100);
        }
        assertTrue(Files.exists(discovery), () -> "no server: " + read(folder.resolve("server.log")));
        found = Discovery.read(discovery);
    }

    @AfterAll
    static void stop() throws InterruptedException {
        if (server != null) {
            server.destroy();
            server.waitFor(20, TimeUnit.SECONDS);
        }
    }

    @Test
    void findsTheSameCellsWithTheSameIdsAsTheCommandLine() throws Exception {
        AtomicInteger heard = new AtomicInteger();
        AnalysisResult result;
        try (Client client = client()) {
            result = client.analyze(ClientTest::block, request(), (done, total) -> heard.incrementAndGet());
        }
        Set<UUID> ids = new HashSet<>();
        long[] halves = result.cellIds();
        for (int i = 0; i < halves.length; i += 2) {
            ids.add(new UUID(halves[i], halves[i + 1]));
        }

        assertEquals(byCommandLine(), ids);
        assertTrue(ids.size() > 10, () -> "only " + ids.size());
        assertTrue(heard.get() > 0);
        assertEquals(result.cellCount(), result.cellDigests().length);
        assertEquals(2 * result.cellCount(), result.cellXy().length);
        assertEquals(result.cellCount() * result.numbers().size(), result.cellNumbers().length);
    }

    @Test
    void thresholdsAreMovedAfterwardsAndKeptOnDisk() throws Exception {
        AnalysisResult all;
        AnalysisResult straight;
        try (Client client = client()) {
            all = client.analyze(ClientTest::block, request().unfiltered(), (done, total) -> { });
            straight = client.analyze(ClientTest::block, request(), (done, total) -> { });
        }
        String name = all.cellClasses().get(0);
        assertTrue(all.cellCount() > straight.cellCount());
        assertArrayEquals(straight.cellIds(), all.above(Map.of()).cellIds());
        assertArrayEquals(straight.cellDigests(), all.above(Map.of()).cellDigests());
        assertEquals(all.cellCount(), all.above(Map.of(name, 0.0)).cellCount());
        assertEquals(0, all.above(Map.of(name, 99.0)).cellCount());

        Path file = folder.resolve("kept").resolve("one.candidates");
        all.save(file);
        AnalysisResult again = AnalysisResult.read(file);
        assertEquals(all.runId(), again.runId());
        assertEquals(all.thresholds(), again.thresholds());
        assertArrayEquals(straight.cellXy(), again.above(Map.of()).cellXy());
    }

    @Test
    void trainsOnWhatIsSentAndServesTheModel() throws Exception {
        StringBuilder features = new StringBuilder();
        for (int[] at : SPOTS) {
            features.append(feature("Point", "[" + (at[0] + 13) + "," + (at[1] + 13) + "]", "Nucleus")).append(',');
        }
        features.append(feature("Polygon", "[[[0,0],[400,0],[400,400],[0,400],[0,0]]]", "Cells marked*"));
        byte[] geojson = ("{\"type\":\"FeatureCollection\",\"features\":[" + features + "]}").getBytes(StandardCharsets.UTF_8);
        String small = "[network]\nwidths = [4, 8, 8]\n[training]\ncrop_px = 64\nbatch_size = 2\n";
        AtomicInteger steps = new AtomicInteger();
        try (Client client = client()) {
            TrainingExamples sent = client.addExamples(ClientTest::block, request(), "spots", true, geojson, (done, total) -> { });
            assertEquals(SPOTS.length + 1, sent.objects());
            assertEquals(SIDE * SIDE, sent.pixels());

            TrainingRequest order = new TrainingRequest("spots", "spots").epochs(1).settings(small);
            TrainingResult result = client.watchTraining(client.startTraining(order), listener(steps, false));
            assertFalse(result.isInterrupted());
            assertEquals(Set.of("Nucleus"), result.thresholds().keySet());
            assertTrue(steps.get() > 0);
            assertTrue(client.models().contains("spots"));
            AnalysisResult found = client.analyze(ClientTest::block, request().model("spots"), (done, total) -> { });
            assertEquals("spots", found.modelTitle());

            TrainingRequest longer = new TrainingRequest("spots", "longer").epochs(5000).settings(small);
            assertThrows(InterruptedException.class,
                    () -> client.watchTraining(client.startTraining(longer), listener(steps, true)));
            for (int i = 0; i < 300 && !client.models().contains("longer"); i++) {
                Thread.sleep(100);
            }
            assertTrue(client.models().contains("longer"), "a stopped training leaves a model that can be used");
        }
    }

    private static TrainingListener listener(AtomicInteger steps, boolean stops) {
        return new TrainingListener() {
            @Override
            public void told(String text) { }

            @Override
            public void step(int done, int total, Map<String, Double> numbers) throws InterruptedException {
                assertTrue(numbers.containsKey("loss"));
                steps.incrementAndGet();
                if (stops) {
                    throw new InterruptedException("enough");
                }
            }
        };
    }

    private static String feature(String type, String coordinates, String name) {
        return "{\"type\":\"Feature\",\"geometry\":{\"type\":\"" + type + "\",\"coordinates\":" + coordinates
                + "},\"properties\":{\"objectType\":\"annotation\",\"classification\":{\"name\":\"" + name
                + "\",\"color\":[200,0,0]}}}";
    }

    @Test
    void whoeverLooksOnCanEndAnAnalysis() throws Exception {
        try (Client client = client()) {
            assertThrows(InterruptedException.class, () -> client.analyze(ClientTest::block, request(), (done, total) -> {
                throw new InterruptedException("cancelled");
            }));
            assertFalse(client.models().isEmpty());
        }
    }

    @Test
    void saysWhatTheModelsFind() throws Exception {
        try (Client client = client()) {
            ModelInfo model = client.described().stream().filter(one -> one.name().equals("starter")).findFirst().orElseThrow();
            assertEquals(Set.of("Nucleus"), model.thresholds().keySet());
            assertTrue(model.toString().contains("0.25 um"), model.toString());
        }
    }

    @Test
    void listsTheModels() throws Exception {
        try (Client client = client()) {
            assertFalse(client.models().isEmpty());
        }
    }

    @Test
    void proposesWithoutAModel() throws Exception {
        try (Client client = client()) {
            AnalysisResult result = client.analyze(ClientTest::block, request().proposal("[cells]\n"), (done, total) -> { });
            assertTrue(result.cellCount() > 10);
            assertTrue(result.cellClasses().get(0).startsWith("Proposed: "));
            assertFalse(result.parametersInShort().isEmpty());
        }
    }

    @Test
    void aWrongTokenIsToldWithTheCure() throws Exception {
        try (Client client = Client.connect(found.address(), "wrong", null)) {
            TissuebridgeException error = assertThrows(TissuebridgeException.class, client::models);
            assertTrue(error.getMessage().contains("token"), error.getMessage());
        }
    }

    @Test
    void whereNobodyAnswersTheCureIsTold() throws Exception {
        try (Client client = Client.connect("127.0.0.1:9", "any", null)) {
            TissuebridgeException error = assertThrows(TissuebridgeException.class, client::models);
            assertEquals("ServerUnreachable", error.kind());
            assertTrue(error.getMessage().contains("tissuebridge serve"), error.getMessage());
        }
    }

    @Test
    void aServersRefusalComesWithItsWords() throws Exception {
        try (Client client = client()) {
            AnalysisRequest request = request().model("no-such-model");
            TissuebridgeException error = assertThrows(TissuebridgeException.class,
                    () -> client.analyze(ClientTest::block, request, (done, total) -> { }));
            assertEquals("UsageError", error.kind());
            assertTrue(error.getMessage().contains("no-such-model"), error.getMessage());
        }
    }

    @Test
    void aBlockThatCannotBeReadEndsTheCall() throws Exception {
        try (Client client = client()) {
            TissuebridgeException error = assertThrows(TissuebridgeException.class, () -> client.analyze(
                    (level, x, y, width, height) -> {
                        throw new IOException("scratched");
                    }, request(), (done, total) -> { }));
            assertTrue(error.getMessage().contains("scratched"), error.getMessage());
        }
    }

    @Test
    void anInterruptEndsTheCallAtOnceAndTheServerServesOn() throws Exception {
        Thread here = Thread.currentThread();
        try (Client client = client()) {
            assertThrows(InterruptedException.class, () -> client.analyze((level, x, y, width, height) -> {
                here.interrupt();
                return block(level, x, y, width, height);
            }, request(), (done, total) -> { }));
            assertFalse(client.models().isEmpty());
        }
    }

    @Test
    void theServersFileIsLookedForWhereEachSystemKeepsIt() {
        Path home = Path.of("/home/me");
        assertEquals(home.resolve(".local/state"), Discovery.pathFor("linux", home, Map.of()));
        assertEquals(Path.of("/x"), Discovery.pathFor("linux", home, Map.of("XDG_STATE_HOME", "/x")));
        assertEquals(home.resolve("Library/Application Support"), Discovery.pathFor("mac os x", home, Map.of()));
        assertEquals(home.resolve("AppData/Local"), Discovery.pathFor("windows 11", home, Map.of()));
    }

    @Test
    void aFileThatIsNoServersIsRefused() throws Exception {
        Path file = Files.writeString(folder.resolve("other.json"), "{\"address\": \"a:1\"}");
        assertThrows(TissuebridgeException.class, () -> Discovery.read(file));
        assertThrows(TissuebridgeException.class, () -> Discovery.read(folder.resolve("missing.json")));
        assertFalse(found.toString().contains(found.token()));
    }

    private static Client client() throws TissuebridgeException {
        return Client.connect(found.address(), found.token(), null);
    }

    private static AnalysisRequest request() {
        return new AnalysisRequest("drawn.png", SIDE, SIDE, 0.25).level(SIDE, SIDE, 1.0).runId("java").model("starter");
    }

    private static byte[] block(int level, int x, int y, int width, int height) {
        byte[] out = new byte[3 * width * height];
        int at = 0;
        for (int pixel : image.getRGB(x, y, width, height, null, 0, width)) {
            out[at++] = (byte) (pixel >> 16);
            out[at++] = (byte) (pixel >> 8);
            out[at++] = (byte) pixel;
        }
        return out;
    }

    private static int[][] spots() {
        Random random = new Random(3);
        int[][] out = new int[60][];
        for (int i = 0; i < out.length; i++) {
            out[i] = new int[] {random.nextInt(SIDE - 30), random.nextInt(SIDE - 30)};
        }
        return out;
    }

    /** Dark blue discs on pink. */
    private static BufferedImage nuclei() {
        BufferedImage drawn = new BufferedImage(SIDE, SIDE, BufferedImage.TYPE_INT_RGB);
        Graphics2D pen = drawn.createGraphics();
        pen.setColor(new Color(232, 190, 212));
        pen.fillRect(0, 0, SIDE, SIDE);
        pen.setColor(new Color(80, 50, 130));
        for (int[] at : SPOTS) {
            pen.fillOval(at[0], at[1], 26, 26);
        }
        pen.dispose();
        return drawn;
    }

    private static Set<UUID> byCommandLine() throws Exception {
        Path out = folder.resolve("out");
        Process process = new ProcessBuilder(COMMAND, "analyse", folder.toString(), "--output", out.toString(),
                "--pixel-size", "0.25").redirectErrorStream(true).redirectOutput(folder.resolve("cli.log").toFile()).start();
        assertTrue(process.waitFor(120, TimeUnit.SECONDS));
        assertEquals(0, process.exitValue(), () -> read(folder.resolve("cli.log")));
        Set<UUID> ids = new HashSet<>();
        Matcher matcher = Pattern.compile("\"id\":\"([0-9a-f-]{36})\"").matcher(read(out.resolve("drawn.geojson")));
        while (matcher.find()) {
            ids.add(UUID.fromString(matcher.group(1)));
        }
        return ids;
    }

    private static String read(Path path) {
        try {
            return Files.readString(path);
        } catch (IOException error) {
            return error.toString();
        }
    }
}
