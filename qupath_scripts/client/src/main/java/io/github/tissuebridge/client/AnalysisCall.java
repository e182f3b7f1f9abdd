package io.github.tissuebridge.client;

import tissuebridge.rpc.v1.AnalyzeRequest;
import tissuebridge.rpc.v1.AnalyzeResponse;

/** An image that is analysed. */
final class AnalysisCall extends ProgressCall<AnalyzeRequest, AnalyzeResponse, AnalysisResult> {

    private final Client client;
    private final PixelReader pixels;
    private AnalysisResult result;

    AnalysisCall(Client client, PixelReader pixels, Listener listener) {
        super(client, listener);
        this.client = client;
        this.pixels = pixels;
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
            case PROGRESS -> progressed(response.getProgress());
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
}
