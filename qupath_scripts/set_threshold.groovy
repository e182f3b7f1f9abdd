/*
 * tissuebridge: moves the thresholds of cells after an analysis, in a second and without the network.
 *
 * Cells that now reach their class's threshold come, those that do not any more go, under the same rules as an analysis: what
 * you edited, named, locked or accepted stays. Without THRESHOLDS those of the model come back.
 */
def THRESHOLDS = [:]    // such as ['Nucleus': 0.45, 'Immune: CD3': 0.6]; classes that are not named keep the model's
def MODEL = ''          // whose results; '' for the one kept by settings.groovy or train.groovy, or for all

// ---------------------------------------------------------------------------------------------------------------------
def options = [thresholds: THRESHOLDS, model: MODEL, log: { println it }]
io.github.tissuebridge.client.Scripts.load(this.class.classLoader).setThresholds(getCurrentImageData(), getProjectEntry(), options)
