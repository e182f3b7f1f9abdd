/*
 * tissuebridge: measures how the cells lie to the tissue, with significance, and puts the numbers on the objects.
 *
 * Cells get their signed distance to each region class, the local density and their neighbours; region annotations get
 * densities, and whether cells keep to their border. A page with plots opens; it lies with its tables in the project, below
 * tissuebridge/spatial. Only measurements are added. "Run for project" works too.
 */
def CELLS = 'latest'    // whose cells: 'latest' analysis where there is one, 'analysis', or a 'person's
def REGIONS = 'latest'  // whose regions, likewise
def SIMULATIONS = 999   // of every test; fewer are faster, and p is never below 1 / (SIMULATIONS + 1)
def SEED = 0            // the same seed gives the same numbers
def ADDRESS = ''        // HOST:PORT of a server; '' for the one kept by settings.groovy, or the one on this machine
def TOKEN = ''          // its token, where an address is given

// ---------------------------------------------------------------------------------------------------------------------
def options = [cells: CELLS, regions: REGIONS, simulations: SIMULATIONS, seed: SEED, address: ADDRESS, token: TOKEN, log: { println it }]
io.github.tissuebridge.client.Scripts.load(this.class.classLoader).measure(getCurrentImageData(), getProjectEntry(), options)
