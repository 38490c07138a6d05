package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documents are what people read, and the units with their comments.
func documents(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, pattern := range []string{"*.md", "packaging/*.md", "packaging/*.toml", "packaging/egress/*.md", "packaging/egress/*.service", "packaging/systemd/*/*.*",
		"contrib/*/*.md", "fs/*.md", "fs/crypt/*.md", "auth/*.md", "auth/login/*.md"} {
		names, err := filepath.Glob("../../" + pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %d documents, %v", pattern, len(names), err)
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			texts[name] = string(b)
		}
	}
	return texts
}

// Documents name commands, words and options that there are.
func TestDocumentsNameWhatThereIs(t *testing.T) {
	t.Parallel()
	table := map[string]completion{}
	for _, c := range completions() {
		table[c.path] = c
	}
	// A command as it is written in code: up to its end, a pipe, or a comment.
	said := regexp.MustCompile("(?:[`^\n(=]|bin/|sudo |; |&& )ipfscloud (?:--drive[ =][A-Za-z]+ )?([a-z][a-z-]*)([^`\n|;#)]*)")
	dashes := regexp.MustCompile(`(?:^|[ \[])(--?[a-z][a-z-]*)`)
	found := 0
	for name, text := range documents(t) {
		for _, m := range said.FindAllStringSubmatch(text, -1) {
			command, rest := m[1], m[2]
			place, ok := table[command]
			if !ok {
				t.Errorf("%s: there is no `ipfscloud %s`: %q", name, command, strings.TrimSpace(m[0]))
				continue
			}
			found++
			next, _ := words(place.next)
			if first, _, _ := strings.Cut(strings.TrimSpace(rest), " "); len(next) > 0 && literal.MatchString(first) && !slices.Contains(next, first) {
				t.Errorf("%s: `ipfscloud %s` knows no %q", name, command, first)
			}
			for _, o := range dashes.FindAllStringSubmatch(rest, -1) {
				if !slices.ContainsFunc(place.flags, func(f option) bool { return f.dash == o[1] }) && o[1] != "--help" {
					t.Errorf("%s: `ipfscloud %s` has no option %s", name, command, o[1])
				}
			}
		}
	}
	if found < 60 {
		t.Errorf("only %d commands were found in the documents", found)
	}
}

// What documents link to is there.
func TestDocumentsLinkToWhatThereIs(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)#:\s]+)(?:#[^)]*)?\)`)
	for name, text := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(name), m[1])); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
