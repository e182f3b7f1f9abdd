/*
 * tissuebridge: trains a model on your annotations, and shows how its losses go.
 *
 * What is learnt from: as in export_training_set.groovy, which is done first. Then the server trains in a process of its own;
 * "kill" in this editor ends it after its step, with a model that can be used, and running the script again goes on. In the
 * end all scripts use the model. Not for "Run for project": set PROJECT.
 */
def PROJECT = true      // learn from all images of the project; false for this image
def MODEL = ''          // what the model is to be called; '' for the project's name
def MINUTES = 30        // about so long
def EPOCHS = 0          // or so many passes, which can be repeated exactly; 0 for MINUTES
def PRESET = 'compact'  // 'paper' as published, for a GPU; 'compact' for a CPU, in minutes
def SETTINGS = ''       // any option of the method, as TOML
def RESTART = false     // begin anew where an unfinished training of this name is in the way
def CHANNELS = []       // fluorescence: as in analyse.groovy
def ADDRESS = ''        // HOST:PORT of a server; '' for the one kept by settings.groovy, or the one on this machine
def TOKEN = ''          // its token, where an address is given

// ---------------------------------------------------------------------------------------------------------------------
def options = [project: PROJECT, model: MODEL, minutes: MINUTES, epochs: EPOCHS, preset: PRESET, settings: SETTINGS,
               restart: RESTART, channels: CHANNELS, address: ADDRESS, token: TOKEN, log: { println it }]
io.github.tissuebridge.client.Scripts.load(this.class.classLoader).train(getCurrentImageData(), getProject(), options)
