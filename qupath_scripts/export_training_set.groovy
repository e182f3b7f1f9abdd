/*
 * tissuebridge: sends your annotations, with the parts of the images that they are on, to a training set at the server.
 *
 * Regions are areas, cells are points, each with a class; areas of class "Cells marked*" say where every cell is dotted. What a
 * run wrote counts only once you have accepted it. A training set is a folder of images with GeoJSON, which
 * `tissuebridge train` takes too. What was sent before under this name is replaced. Not for "Run for project": set PROJECT.
 */
def PROJECT = true      // all images of the project; false for this image
def SET = ''            // the set's name; '' for the project's or the image's
def CHANNELS = []       // fluorescence: as in analyse.groovy
def ADDRESS = ''        // HOST:PORT of a server; '' for the one kept by settings.groovy, or the one on this machine
def TOKEN = ''          // its token, where an address is given

// ---------------------------------------------------------------------------------------------------------------------
def options = [project: PROJECT, set: SET, channels: CHANNELS, address: ADDRESS, token: TOKEN, log: { println it }]
io.github.tissuebridge.client.Scripts.load(this.class.classLoader).exportTrainingSet(getCurrentImageData(), getProject(), options)
