package io.github.tissuebridge.client;

import tissuebridge.rpc.v1.AddExamplesRequest;
import tissuebridge.rpc.v1.AddExamplesResponse;
import tissuebridge.rpc.v1.Example;
import tissuebridge.rpc.v1.ExamplesAdded;
import tissuebridge.rpc.v1.ObjectsPiece;

/** An image whose annotated parts are sent to learn from. */
final class SendingCall extends ProgressCall<AddExamplesRequest, AddExamplesResponse, TrainingExamples> {

    private final Client client;
    private final PixelReader pixels;

    SendingCall(Client client, PixelReader pixels, Listener listener) {
        super(client, listener);
        this.client = client;
        this.pixels = pixels;
    }

    TrainingExamples run(AnalysisRequest request, String trainingSet, boolean first, byte[] geojson)
            throws TissuebridgeException, InterruptedException {
        client.trainingStream().addExamples(this);
        Example example = request.example().setTrainingSet(trainingSet).setFirst(first).build();
        send(AddExamplesRequest.newBuilder().setExample(example).build());
        for (ObjectsPiece piece : pieces(geojson)) {
            send(AddExamplesRequest.newBuilder().setObjects(piece).build());
        }
        return workedOff();
    }

    @Override
    boolean handled(AddExamplesResponse response) throws TissuebridgeException, InterruptedException {
        switch (response.getStepCase()) {
            case BLOCK -> send(AddExamplesRequest.newBuilder().setBlock(block(pixels, response.getBlock())).build());
            case PROGRESS -> progressed(response.getProgress());
            case ADDED -> {
                ExamplesAdded added = response.getAdded();
                return finished(new TrainingExamples(added.getObjects(), added.getParts(), added.getPixels()));
            }
            default -> { }
        }
        return false;
    }
}
