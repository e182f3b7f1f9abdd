/*
 * tissuebridge: finds regions and cells in this image.
 *
 * In the selected areas; with nothing selected in areas of class Region*; without any in the TMA cores that are on the slide;
 * without cores in the whole image. "Run for project" works too. Pixels come from QuPath, the network runs in a tissuebridge
 * server. What you drew, edited, named, locked or accepted stays; what an earlier run of the same model wrote and nobody
 * touched is replaced.
 */
def MODEL = ''          // a model's name at the server; '' for its only one
def ADDRESS = ''        // HOST:PORT of a server; '' for the one on this machine
def TOKEN = ''          // its token, where an address is given

// ---------------------------------------------------------------------------------------------------------------------
def options = [model: MODEL, address: ADDRESS, token: TOKEN, log: { println it }]
io.github.tissuebridge.client.Scripts.load(this.class.classLoader).analyse(getCurrentImageData(), getProjectEntry(), options)
