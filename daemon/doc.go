// Package daemon joins the parts: it reads the configuration, opens the store, the tree
// and the mount, answers control requests, and ends them all in the right order.
//
// It may import every package of the project but daemon/cli. It keeps no state of its
// own beyond what it wires, never prompts, never prints, and never ends the process.
package daemon
