package cli

import (
	"context"
	"flag"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// completionCommand prints what makes a shell complete command lines. It is made from the
// same table as the help, so that it knows what the program knows.
type completionCommand struct{ shell string }

func (c *completionCommand) flags(*flag.FlagSet) {}

func (c *completionCommand) parse(args []string) error {
	if len(args) != 1 || completionScript(args[0]) == nil {
		return fmt.Errorf("%w: want bash, zsh or fish", errUsage)
	}
	c.shell = args[0]
	return nil
}

func (c *completionCommand) run(_ context.Context, e *env) error {
	_, err := fmt.Fprint(e.out, completionScript(c.shell)(completions()))
	return err
}

func completionScript(shell string) func([]completion) string {
	return map[string]func([]completion) string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}[shell]
}

// What stands where a shell completes. Anything else is a word to choose.
const (
	takesFile = "@file"
	takesDir  = "@dir"
)

// completion is what can follow a beginning of a command line.
type completion struct {
	path  string // words without flags: "", "id", "id claim"
	next  []choice
	flags []option // of the command; those of "" are none
}

// choice is a word, or takesFile or takesDir.
type choice struct{ word, text string }

// completions are made from the entries: what their arguments are said to be is read as
// a grammar, of alternatives, words in small letters, and names in capitals.
func completions() []completion {
	root := completion{}
	var all []completion
	for _, e := range entries() {
		if e.hidden {
			continue
		}
		root.next = append(root.next, choice{e.name, e.short})
		at := map[string]int{e.name: len(all)}
		all = append(all, completion{path: e.name, flags: e.options()})
		for _, alternative := range strings.Split(e.args, " | ") {
			paths := []string{e.name}
			for _, field := range strings.Fields(alternative) {
				words, other := splitField(field)
				var deeper []string
				for _, p := range paths {
					node := &all[at[p]]
					for _, w := range words {
						if !slices.Contains(node.next, choice{word: w}) {
							node.next = append(node.next, choice{word: w})
						}
						deeper = append(deeper, p+" "+w)
					}
					if other != "" && !slices.Contains(node.next, choice{word: other}) {
						node.next = append(node.next, choice{word: other})
					}
				}
				if len(words) == 0 {
					break // what follows an argument is not completed
				}
				for _, p := range deeper {
					if _, ok := at[p]; !ok {
						at[p] = len(all)
						all = append(all, completion{path: p, flags: e.options()})
					}
				}
				paths = deeper
			}
		}
	}
	all = append(all, completion{path: "help", next: slices.Clone(root.next)})
	root.next = append(root.next, choice{"help", "tell about a command"})
	return append([]completion{root}, all...)
}

var literal = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

// splitField reads one field of a grammar: "add|remove", "[MOUNTPOINT]", "URL…|local".
func splitField(field string) (words []string, other string) {
	for _, part := range strings.Split(strings.Trim(field, "[]…"), "|") {
		part = strings.Trim(part, "…")
		if literal.MatchString(part) {
			words = append(words, part)
		} else if k := kind(part); k != "" {
			other = k
		}
	}
	return words, other
}

// kind is what a name in capitals stands for, if a shell can complete it.
func kind(name string) string {
	switch name {
	case "FILE", "PATH", "REQUEST":
		return takesFile
	case "DIR", "MOUNTPOINT":
		return takesDir
	}
	return ""
}

// values are what an option with a value takes.
func (o *option) values() []choice {
	switch o.value {
	case "LEVEL":
		return []choice{{word: "local"}, {word: "ipfs"}, {word: "egress:2"}}
	case "METHOD":
		return []choice{{word: "webvh"}, {word: "key"}}
	}
	if k := kind(o.value); k != "" {
		return []choice{{word: k}}
	}
	return nil
}

// words are the choices that are words, and kinds those that are not.
func words(cs []choice) (words []string, kind string) {
	for _, c := range cs {
		if strings.HasPrefix(c.word, "@") {
			kind = c.word
			continue
		}
		words = append(words, c.word)
	}
	return words, kind
}
