/*
 * What a person says of proposals in QuPath: accepted as a class, or rejected. The rules, and what is noted on the objects,
 * are those of tissuebridge.proposals.review.
 */
package tissuebridge

import groovy.transform.CompileStatic
import java.time.LocalDate
import qupath.lib.objects.PathObject
import qupath.lib.objects.classes.PathClass
import qupath.lib.objects.hierarchy.PathObjectHierarchy

@CompileStatic
class Review {
    static final String PROPOSED = "Proposed: "
    static final String NOT_A_CELL = "Not a cell*"

    /**
     * Decides on proposals: of the selected ones, or of all where none is selected.
     *
     * `accept` has the proposed class, without "Proposed: ", and the class that it is; '*' stands for all proposed classes.
     */
    static String decide(PathObjectHierarchy hierarchy, Map<String, String> accept, Collection<String> reject, String reviewer) {
        Collection<PathObject> all = hierarchy.getSelectionModel().getSelectedObjects().findAll { PathObject obj -> isOpen(obj) }
        if (all.isEmpty()) all = hierarchy.getAllObjects(false).findAll { PathObject obj -> isOpen(obj) }
        int accepted = 0, rejected = 0
        List<PathObject> changed = []
        for (PathObject obj : all) {
            String name = nameOf(obj), to = accept.get(name) ?: accept.get("*")
            if (to != null) {
                note(obj, "accepted", name, reviewer, PathClass.fromString(to))
                accepted++
            } else if (reject.contains(name) || reject.contains("*")) {
                note(obj, "rejected", name, reviewer, obj.isDetection() ? PathClass.fromString(NOT_A_CELL) : obj.getPathClass())
                rejected++
            } else continue
            changed.add(obj)
        }
        hierarchy.fireObjectClassificationsChangedEvent(hierarchy, changed)
        return "${accepted} accepted, ${rejected} rejected, ${remaining(hierarchy)} left to review".toString()
    }

    /** The next proposal without a decision, from the selected one on, top to bottom; null where none is left. */
    static PathObject next(PathObjectHierarchy hierarchy, boolean backwards) {
        List<PathObject> open = hierarchy.getAllObjects(false).findAll { PathObject obj -> isOpen(obj) } as List<PathObject>
        if (open.isEmpty()) return null
        open.sort { PathObject one, PathObject other -> compared(one, other) }
        PathObject from = hierarchy.getSelectionModel().getSelectedObject()
        if (from == null || !from.hasROI()) return backwards ? open.get(open.size() - 1) : open.get(0)
        List<PathObject> beyond = open.findAll { PathObject obj -> backwards ? compared(obj, from) < 0 : compared(obj, from) > 0 } as List<PathObject>
        if (beyond.isEmpty()) return backwards ? open.get(open.size() - 1) : open.get(0)
        return backwards ? beyond.get(beyond.size() - 1) : beyond.get(0)
    }

    /** Rows of 200 px from the top, in each from the left, so that the view does not jump about. */
    static int compared(PathObject one, PathObject other) {
        int byRow = Double.compare(Math.floor(one.getROI().getCentroidY() / 200), Math.floor(other.getROI().getCentroidY() / 200))
        if (byRow != 0) return byRow
        int byColumn = Double.compare(one.getROI().getCentroidX(), other.getROI().getCentroidX())
        return byColumn != 0 ? byColumn : Double.compare(one.getROI().getCentroidY(), other.getROI().getCentroidY())
    }

    static int remaining(PathObjectHierarchy hierarchy) {
        return hierarchy.getAllObjects(false).count { PathObject obj -> isOpen(obj) } as int
    }

    /** Whether a proposal waits for a decision: nobody has edited, re-classed or locked it, accepted or rejected it. */
    static boolean isOpen(PathObject obj) {
        return nameOf(obj) != null && Results.isUntouched(obj)
    }

    static String nameOf(PathObject obj) {
        if (Results.runOf(obj) == null || obj.getMetadata().get(Results.PREFIX + "method") != "propose") return null
        String name = String.valueOf(obj.getPathClass())
        return name.startsWith(PROPOSED) ? name.substring(PROPOSED.length()) : null
    }

    static void note(PathObject obj, String what, String name, String reviewer, PathClass to) {
        obj.setPathClass(to)
        Map<String, String> metadata = obj.getMetadata()
        metadata.put(Results.PREFIX + what, LocalDate.now().toString())
        metadata.put(Results.PREFIX + "proposed", name)
        if (!reviewer.isEmpty()) metadata.put(Results.PREFIX + "reviewer", reviewer)
        metadata.put(Results.PREFIX + "digest", Results.digestOf(obj))
    }
}
