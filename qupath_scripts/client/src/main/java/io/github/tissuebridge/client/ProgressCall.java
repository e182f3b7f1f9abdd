package io.github.tissuebridge.client;

import tissuebridge.rpc.v1.Progress;

/** A call whose server tells how far it is; whoever listens hears it again while nothing else comes, and may want an end. */
abstract class ProgressCall<Q, R, T> extends StreamCall<Q, R, T> {

    private final Listener listener;
    private int done;
    private int total;

    ProgressCall(Client client, Listener listener) {
        super(client);
        this.listener = listener;
    }

    final void progressed(Progress progress) throws InterruptedException {
        done = progress.getDone();
        total = progress.getTotal();
        waiting();
    }

    @Override
    final void waiting() throws InterruptedException {
        listener.progress(done, total);
    }
}
