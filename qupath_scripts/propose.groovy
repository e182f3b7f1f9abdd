/*
 * tissuebridge: proposes regions of the same colour and nuclei by their stain, without training.
 *
 * Where: as analyse.groovy. Proposals have classes "Proposed: ..."; they count for nothing until you give them another class,
 * which accepts them. Proposing again replaces those that you have not touched.
 */
def REGIONS = true      // propose regions
def CELLS = true        // propose nuclei
def STAINS = ''         // what the image is stained with, such as 'Hematoxylin,DAB'; '' for two learnt stains
def DIAMETER_UM = 8.0   // of a nucleus
def ADDRESS = ''        // HOST:PORT of a server; '' for the one kept by settings.groovy, or the one on this machine
def TOKEN = ''          // its token, where an address is given

// ---------------------------------------------------------------------------------------------------------------------
def stains = STAINS.trim().isEmpty() ? '' : 'stains = [' + STAINS.split(',').collect { '"' + it.trim() + '"' }.join(', ') + ']\n'
def tables = (REGIONS ? ['[regions]\n'] : []) + (CELLS ? ["[cells]\ndiameter_um = ${DIAMETER_UM as double}\n${stains}".toString()] : [])
def tissuebridge = io.github.tissuebridge.client.Scripts.load(this.class.classLoader)
for (proposal in tables) {
    def options = [proposal: proposal, address: ADDRESS, token: TOKEN, log: { println it }]
    tissuebridge.analyse(getCurrentImageData(), getProjectEntry(), options)
}
