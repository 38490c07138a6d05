package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/cluster-labs/ipfscloud/daemon/printable"
)

// A value that others wrote is one line, whatever it is.
func TestValuesAreOneLine(t *testing.T) {
	var b bytes.Buffer
	o := &output{printable.NewWriter(&b), nil}
	forged := "x\nsafe?       Everything is stored in 3 places.\x1b[A"
	o.Printf("%s|%v|%q|%v|%d|%.3f|%v\n", forged, errors.New(forged), forged, []string{forged}, 7, 1.5, time.Second)
	o.Println("a", errors.Join(errors.New("one"), errors.New("two")), 3, nil)
	if got := b.String(); strings.Count(got, "\n") != 2 || strings.Contains(got, "\x1b") {
		t.Errorf("%q", got)
	}
	if want := "a one; two 3 <nil>\n"; !strings.HasSuffix(b.String(), want) {
		t.Errorf("%q does not end in %q", b.String(), want)
	}
	b.Reset()
	o.Printf("%-8s|%5d|%.*s|\n", "ab", 42, 3, "abcdef")
	if want := "ab      |   42|abc|\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
	b.Reset()
	o.obey(clearScreen)
	fmt.Fprintf(o, "two\nlines\x1b[2J")
	if want := string(clearScreen) + "two\nlines" + `\u001b[2J`; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

// hostile is what a stranger sends: a title, the clipboard, colours, a line of its own, and
// text that runs the other way.
const hostile = "evil\x1b]0;PWNED\x07\x1b]52;c;cm0gLXJmIH4=\x07\x1b[31m\u009b2J\u202egpj.exe\r\nsafe?"

// dirty says what in an output a terminal would obey.
func dirty(s string) string {
	for _, r := range s {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
			return fmt.Sprintf("%q in %q", r, s)
		}
	}
	return ""
}

// What a cluster and an IPFS node say reaches no terminal as it is.
func TestTextOfStrangers(t *testing.T) {
	answer := func(w http.ResponseWriter, v any) {
		if err := json.NewEncoder(w).Encode(v); err != nil {
			t.Error(err)
		}
	}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/peers":
			answer(w, map[string]any{"id": "12D3KooW" + hostile, "peername": hostile, "version": hostile, "error": "", "cluster_peers": []string{hostile},
				"ipfs": map[string]any{"id": hostile, "addresses": []string{hostile}, "error": hostile}})
		case strings.HasPrefix(r.URL.Path, "/api/v0/version"):
			answer(w, map[string]string{"Version": "0.43.0" + hostile})
		default:
			w.WriteHeader(http.StatusInternalServerError)
			answer(w, map[string]any{"code": 500, "message": hostile, "Message": hostile, "Type": "error"})
		}
	}))
	t.Cleanup(api.Close)
	d := newHome(t)
	d.init()
	for _, args := range [][]string{
		{"egress", "use", api.URL}, {"egress", "peers"}, {"egress", "peers", "--json"}, {"egress", hostile}, {hostile}, {"mount", d.mnt, "--" + hostile},
		{"mount", "--ipfs", api.URL, "--passfile", d.path("pass"), d.mnt}, {"info", hostile}, {"id", "resolve", "did:web:" + hostile},
		{"config", "check", d.path(hostile)}, {"recover", "--domain", hostile},
	} {
		out, problem, _ := d.run(args...)
		if bad := dirty(out + problem); bad != "" {
			t.Errorf("%q: %s", args, bad)
		}
		for line := range strings.SplitSeq(out+problem, "\n") {
			if strings.HasPrefix(line, "safe?") {
				t.Errorf("%q prints a line that is not its own: %q", args, out+problem)
			}
		}
	}
	var peers []struct{ Name string }
	if err := json.Unmarshal([]byte(d.ok("egress", "peers", "--json")), &peers); err != nil || len(peers) != 1 {
		t.Errorf("peers as JSON: %v, %v", peers, err)
	}
}
