/*
 * How far something is: a line in QuPath's log at every tenth, and QuPath's own progress bar, whose Cancel ends the work.
 */
package tissuebridge

import groovy.transform.CompileStatic
import io.github.tissuebridge.client.Listener
import qupath.lib.gui.QuPathGUI
import qupath.lib.gui.TaskRunnerFX
import qupath.lib.plugins.SimpleProgressMonitor

@CompileStatic
class Progress implements Listener, AutoCloseable {
    private final String what, unit
    private final Closure<?> log
    private SimpleProgressMonitor bar
    private int shown = 0, tenth = -1

    Progress(String what, String unit, Closure<?> log) {
        this.what = what
        this.unit = unit
        this.log = log
    }

    void progress(int done, int total) {
        if (total <= 0) return
        if (bar == null) {
            bar = barOf()
            bar?.startMonitoring("tissuebridge: " + what, total, true)
        }
        if (10 * done / total as int > tenth) {
            tenth = 10 * done / total as int
            log.call("tissuebridge: ${what}, ${done} of ${total} ${unit}".toString())
        }
        if (bar == null) return
        if (bar.cancelled()) throw new InterruptedException("cancelled")
        // The bar closes itself when it is full; the end is `close`'s.
        int more = Math.min(done, total - 1) - shown
        bar.updateProgress(Math.max(more, 0), "${done} of ${total} ${unit}".toString(), null)
        shown += Math.max(more, 0)
    }

    void close() { bar?.pluginCompleted("") }

    /** QuPath's bar in its window; headless the log is enough. */
    private static SimpleProgressMonitor barOf() {
        QuPathGUI gui = QuPathGUI.getInstance()
        return gui == null ? null : new TaskRunnerFX(gui, 1).makeProgressMonitor()
    }
}
