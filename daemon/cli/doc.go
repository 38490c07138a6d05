// Package cli is the command line: commands, prompts, output and exit codes.
//
// It imports daemon and auth. It never ends the process (main does), never takes a secret
// from its arguments or the environment, and prints one line about what failed and what
// to do.
package cli
