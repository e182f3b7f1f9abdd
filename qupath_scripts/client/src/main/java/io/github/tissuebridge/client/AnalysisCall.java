package io.github.tissuebridge.client;

import tissuebridge.rpc.v1.AnalyzeRequest;
import tissuebridge.rpc.v1.AnalyzeResponse;

/** An image that is analysed. */
final class AnalysisCall extends StreamCall<AnalyzeRequest, AnalyzeResponse, AnalysisResult> {

    private final Client client;
    private final PixelReader pixels;
    private final Listener listener;
    private AnalysisResult result;
    private int done;
    private int total;

    AnalysisCall(Client client, PixelReader pixels, Listener listener) {
        super(client);
        this.client = client;
        this.pixels = pixels;
        this.listener = listener;
    }

    AnalysisResult run(AnalysisRequest request) throws TissuebridgeException, InterruptedException {
        client.analysisStream().analyze(this);
        send(AnalyzeRequest.newBuilder().setStart(request.message()).build());
        return workedOff();
    }

    @Override
    boolean handled(AnalyzeResponse response) throws TissuebridgeException, InterruptedException {
        switch (response.getStepCase()) {
            case ACCEPTED -> result = new AnalysisResult(response.getAccepted());
            case BLOCK -> send(AnalyzeRequest.newBuilder().setBlock(block(pixels, response.getBlock())).build());
            case PROGRESS -> {
                done = response.getProgress().getDone();
                total = response.getProgress().getTotal();
                waiting();
            }
            case REGIONS -> result.add(response.getRegions());
            case CELLS -> result.add(response.getCells());
            case SUMMARY -> {
                result.finish(response.getSummary());
                return finished(result);
            }
            default -> { }
        }
        return false;
    }

    @Override
    void waiting() throws InterruptedException {
        listener.progress(done, total);
    }
}
