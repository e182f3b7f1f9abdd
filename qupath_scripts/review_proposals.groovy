/*
 * tissuebridge: says what proposals are.
 *
 * Of the selected proposals, or of all in the image where none is selected, those named here are accepted as a class or
 * rejected. Accepted ones are yours from then on: they train and count. Rejected nuclei become "Not a cell*", which trains
 * too; rejected regions are never used. Then the next proposal is selected and shown.
 */
def ACCEPT = [:]        // such as ['colour 3': 'Stroma', 'Nucleus': 'Tumor cell']; '*' for every proposed class
def REJECT = []         // such as ['colour 1']; '*' for every one
def REVIEWER = ''       // who decides, for the record
def BACKWARDS = false   // show the previous one instead of the next

// ---------------------------------------------------------------------------------------------------------------------
def tissuebridge = io.github.tissuebridge.client.Scripts.load(this.class.classLoader)
def hierarchy = getCurrentHierarchy()
println tissuebridge.decide(hierarchy, ACCEPT.collectEntries { [it.key as String, it.value as String] }, REJECT*.toString(), REVIEWER)
def shown = tissuebridge.next(hierarchy, BACKWARDS)
if (shown != null) {
    hierarchy.getSelectionModel().setSelectedObject(shown)
    getCurrentViewer()?.setCenterPixelLocation(shown.getROI().getCentroidX(), shown.getROI().getCentroidY())
}
