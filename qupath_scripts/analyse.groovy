/*
 * tissuebridge: finds regions and cells in this image.
 *
 * In the selected areas (draw and select a rectangle for a preview in seconds); with nothing selected in areas of class
 * Region*; without any in the TMA cores that are on the slide; without cores in the whole image. "Run for project" works too.
 * Pixels come from QuPath, the network runs in a tissuebridge server. What you drew, edited, named, locked or accepted stays;
 * what an earlier run of the same model wrote there and nobody touched is replaced.
 */
def MODEL = ''          // a model's name at the server; '' for the one kept by settings.groovy or train.groovy, or the only one
def CHANNELS = []       // fluorescence: the three channels that stand for red, green, blue, as ['DAPI 0..4000', 'FITC', 'Cy3']
def ADDRESS = ''        // HOST:PORT of a server; '' for the one kept by settings.groovy, or the one on this machine
def TOKEN = ''          // its token, where an address is given

// ---------------------------------------------------------------------------------------------------------------------
def options = [model: MODEL, channels: CHANNELS, address: ADDRESS, token: TOKEN, log: { println it }]
io.github.tissuebridge.client.Scripts.load(this.class.classLoader).analyse(getCurrentImageData(), getProjectEntry(), options)
