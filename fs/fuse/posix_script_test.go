package fuse

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The tables in testdata/posix are cases of what POSIX and Linux promise. A case:
//
//	== what it is about
//	for T in regular dir fifo       the case is run for each value of $T
//	make $T n0                      an operation that must succeed
//	a: chmod n0 0644 -> EPERM       as the user a, with this error
//	readlink l = target             with this result
//	@drive open . O_TMPFILE -> EOPNOTSUPP    only there
//
// {x*255} stands for 255 times x, %C3 for one byte. Each case runs in an empty directory of its own, once
// on the local disk, which says whether the case is right, and once on the drive.

// line is one operation of a case.
type line struct {
	at    string // file:line
	text  string
	only  string // "drive" or "ext4", or both if empty
	user  string
	op    string
	args  []string
	errs  []string // one of these must happen
	want  string   // the result
	check bool     // want counts
}

// testCase is a case with its loops unrolled.
type testCase struct {
	name  string
	only  string
	lines []line
}

// loadCases reads the tables.
func loadCases(t *testing.T, pattern string) []testCase {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no tables at %s: %v", pattern, err)
	}
	var out []testCase
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		area := strings.TrimSuffix(filepath.Base(f), ".txt")
		var title string
		var body []string
		var at int
		end := func() {
			if title != "" {
				out = append(out, unroll(t, area+"/"+title, filepath.Base(f), at, body)...)
			}
		}
		for i, text := range strings.Split(string(b), "\n") {
			if rest, ok := strings.CutPrefix(text, "== "); ok {
				end()
				title, body, at = rest, nil, i+1
				continue
			}
			body = append(body, text)
		}
		end()
	}
	return out
}

// unroll makes a case for each value of its loops.
func unroll(t *testing.T, name, file string, at int, body []string) []testCase {
	t.Helper()
	type loop struct {
		names  []string
		values [][]string
	}
	var loops []loop
	var only string
	if rest, ok := strings.CutPrefix(filepath.Base(name), "@"); ok {
		only, _, _ = strings.Cut(rest, " ")
	}
	var texts []string
	var ats []int
	for i, text := range body {
		text, _, _ = strings.Cut(text, " # ")
		text = strings.TrimSpace(text)
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		if rest, ok := strings.CutPrefix(text, "for "); ok {
			names, values, ok := strings.Cut(rest, " in ")
			if !ok {
				t.Fatalf("%s:%d: %s", file, at+i+1, text)
			}
			l := loop{names: strings.Split(names, ",")}
			for _, v := range strings.Fields(values) {
				vs := strings.Split(v, ",")
				if len(vs) != len(l.names) {
					t.Fatalf("%s:%d: %s is not for %s", file, at+i+1, v, names)
				}
				l.values = append(l.values, vs)
			}
			loops = append(loops, l)
			continue
		}
		texts, ats = append(texts, text), append(ats, at+i+1)
	}
	var out []testCase
	var walk func(k int, subst []string, label string)
	walk = func(k int, subst []string, label string) {
		if k < len(loops) {
			for _, vs := range loops[k].values {
				s := subst
				for j, n := range loops[k].names {
					s = append(s[:len(s):len(s)], "$"+n, vs[j])
				}
				walk(k+1, s, label+" "+strings.Join(vs, ","))
			}
			return
		}
		r := strings.NewReplacer(subst...)
		c := testCase{name: name + label, only: only}
		for i, text := range texts {
			c.lines = append(c.lines, parseLine(t, fmt.Sprintf("%s:%d", file, ats[i]), r.Replace(text)))
		}
		out = append(out, c)
	}
	walk(0, nil, "")
	return out
}

func parseLine(t *testing.T, at, text string) line {
	t.Helper()
	l := line{at: at, text: text, user: "root"}
	f := strings.Fields(text)
	if rest, ok := strings.CutPrefix(f[0], "@"); ok {
		l.only, f = rest, f[1:]
	}
	if u, ok := strings.CutSuffix(f[0], ":"); ok {
		l.user, f = u, f[1:]
	}
	for i, w := range f {
		if w == "->" && i+1 < len(f) {
			l.errs, f = strings.Split(f[i+1], "|"), f[:i]
			break
		}
		if w == "=" {
			l.want, l.check, f = strings.Join(f[i+1:], " "), true, f[:i]
			break
		}
	}
	if len(f) == 0 {
		t.Fatalf("%s: no operation in %q", at, text)
	}
	l.op = f[0]
	for _, a := range f[1:] {
		l.args = append(l.args, repeat(t, at, a))
	}
	l.want = repeat(t, at, l.want)
	return l
}

// repeat writes {x*3} out.
func repeat(t *testing.T, at, s string) string {
	t.Helper()
	if u, err := url.PathUnescape(s); err == nil {
		s = u
	}
	for {
		i := strings.IndexByte(s, '{')
		j := strings.IndexByte(s, '}')
		if i < 0 || j < i {
			return s
		}
		what, times, ok := strings.Cut(s[i+1:j], "*")
		n, err := strconv.Atoi(times)
		if !ok || err != nil {
			t.Fatalf("%s: %s", at, s)
		}
		s = s[:i] + strings.Repeat(what, n) + s[j+1:]
	}
}
