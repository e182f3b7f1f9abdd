/*
 * tissuebridge: shows which server answers and what its models find, and keeps what all scripts use where they say nothing.
 */
def MODEL = null        // keep this model's name; '' to keep none, null to leave it
def ADDRESS = null      // keep this server (HOST:PORT); '' for the one on this machine, null to leave it
def TOKEN = ''          // its token

// ---------------------------------------------------------------------------------------------------------------------
def settings = io.github.tissuebridge.client.Settings
if (MODEL != null) settings.keepModel(MODEL)
if (ADDRESS != null) settings.keepServer(ADDRESS, TOKEN)
io.github.tissuebridge.client.Scripts.load(this.class.classLoader).described([:]).each { println it }
