package io.github.tissuebridge.client;

import java.util.Objects;
import tissuebridge.rpc.v1.StartTrainingRequest;

/** What is to be trained. Set what is known, then give it to {@link Client#startTraining}. */
public final class TrainingRequest {

    private final StartTrainingRequest.Builder order = StartTrainingRequest.newBuilder();

    /**
     * @param trainingSet the set's name at the server
     * @param model what the model is to be called
     */
    public TrainingRequest(String trainingSet, String model) {
        order.setTrainingSet(Objects.requireNonNull(trainingSet)).setModel(Objects.requireNonNull(model));
    }

    /** "compact" (the default) or "paper". */
    public TrainingRequest preset(String name) {
        order.setPreset(name);
        return this;
    }

    /** About so long. */
    public TrainingRequest minutes(double minutes) {
        order.setMinutes(minutes);
        return this;
    }

    /** Or so many passes, which can be repeated exactly. */
    public TrainingRequest epochs(int epochs) {
        order.setEpochs(epochs);
        return this;
    }

    /** Any option of the method, as TOML. */
    public TrainingRequest settings(String toml) {
        order.setSettings(toml);
        return this;
    }

    /** Begin anew where an unfinished training of this name is in the way. */
    public TrainingRequest restart(boolean anew) {
        order.setRestart(anew);
        return this;
    }

    StartTrainingRequest message() {
        return order.setProtocol(AnalysisRequest.PROTOCOL).setClientVersion(Client.VERSION).build();
    }
}
