package io.github.tissuebridge.client;

import java.util.Map;
import tissuebridge.rpc.v1.TrainingEnded;
import tissuebridge.rpc.v1.WatchTrainingRequest;
import tissuebridge.rpc.v1.WatchTrainingResponse;

/** A training that is followed, and stopped where whoever follows it wants an end. */
final class WatchingCall extends StreamCall<WatchTrainingRequest, WatchTrainingResponse, TrainingResult> {

    private final Client client;
    private final TrainingListener listener;

    WatchingCall(Client client, TrainingListener listener) {
        super(client);
        this.client = client;
        this.listener = listener;
    }

    TrainingResult run(String training) throws TissuebridgeException, InterruptedException {
        client.trainingStream().watch(WatchTrainingRequest.newBuilder().setTraining(training).build(), this);
        try {
            return workedOff();
        } catch (InterruptedException ended) {
            // A blocking call fails at once in an interrupted thread.
            Thread.interrupted();
            client.stopTraining(training);
            throw ended;
        }
    }

    @Override
    boolean handled(WatchTrainingResponse response) throws InterruptedException {
        switch (response.getStepCase()) {
            case TOLD -> listener.told(response.getTold());
            case PROGRESS -> listener.step(response.getProgress().getDone(), response.getProgress().getTotal(),
                    Map.copyOf(response.getProgress().getNumbersMap()));
            case ENDED -> {
                TrainingEnded end = response.getEnded();
                return finished(new TrainingResult(end.getModel(), end.getDigest(), end.getInterrupted(),
                        Map.copyOf(end.getThresholdsMap())));
            }
            default -> { }
        }
        return false;
    }

    @Override
    void waiting() throws InterruptedException {
        listener.waiting();
    }
}
