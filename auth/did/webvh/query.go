package webvh

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

// Query chooses a version: the one of which all that is set is true. The zero one chooses
// the newest.
type Query struct {
	VersionID     string
	VersionTime   time.Time
	VersionNumber int // counts from 1
}

// ParseQuery reads a query as text, as a command line or a DID URL has it; empty is not
// given.
func ParseQuery(versionID, versionTime, versionNumber string) (Query, error) {
	q := Query{VersionID: versionID}
	if versionTime != "" {
		at, err := time.Parse(time.RFC3339Nano, versionTime)
		if err != nil || at.IsZero() {
			return Query{}, badQuery("versionTime %.80q is no time such as 2006-01-02T15:04:05Z", versionTime)
		}
		q.VersionTime = at
	}
	if versionNumber != "" {
		n, err := strconv.Atoi(versionNumber)
		if err != nil || n < 0 {
			return Query{}, badQuery("versionNumber %.80q is no number from 1", versionNumber)
		}
		if n == 0 { // well-formed, and the zero Query means something else
			return Query{}, notFound("no version 0, the first is 1")
		}
		q.VersionNumber = n
	}
	return q, q.check()
}

func (q Query) check() error {
	if q.VersionNumber < 0 {
		return badQuery("versionNumber %d is no number from 1", q.VersionNumber)
	}
	return nil
}

func badQuery(format string, args ...any) error {
	return &did.Error{Name: did.NameInvalidOptions, Reason: fmt.Sprintf(format, args...), Err: did.ErrInvalid}
}

// URL is a DID URL, taken apart.
type URL struct {
	ID       ID
	Path     string // with its slash, as it was written
	Query    Query
	Fragment string
}

// ParseURL reads a DID URL: a DID with a path, a query for a version, and a fragment, each
// of which may be missing. Other queries are refused.
func ParseURL(text string) (URL, error) {
	rest, fragment, _ := strings.Cut(text, "#")
	rest, query, _ := strings.Cut(rest, "?")
	plain, path := rest, ""
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		plain, path = rest[:i], rest[i:]
	}
	id, err := ParseID(plain)
	if err != nil {
		return URL{}, err
	}
	u := URL{ID: id, Path: path, Fragment: fragment}
	if u.Path, err = cleanPath(path); err != nil {
		return URL{}, badURL(text, err.Error())
	}
	// A plus is a plus here, as in +00:00, and no space.
	values, err := url.ParseQuery(strings.ReplaceAll(query, "+", "%2B"))
	if err != nil {
		return URL{}, badURL(text, "its query")
	}
	for name, v := range values {
		if (name != "versionId" && name != "versionTime" && name != "versionNumber") || len(v) != 1 || v[0] == "" {
			return URL{}, badURL(text, fmt.Sprintf("query %.80q is unknown, empty or given twice", name))
		}
	}
	u.Query, err = ParseQuery(values.Get("versionId"), values.Get("versionTime"), values.Get("versionNumber"))
	return u, err
}

func badURL(text, why string) error {
	return &did.Error{Name: did.NameInvalidDIDURL, Reason: fmt.Sprintf("%.300q: %s", text, why), Err: did.ErrInvalid}
}

// cleanPath checks the path of a DID URL as the path of a DID is checked.
func cleanPath(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	parts := strings.Split(path[1:], "/")
	for i, p := range parts {
		if i == len(parts)-1 && p == "" {
			break // a directory
		}
		s, err := segment(strings.ReplaceAll(p, ":", "%3A"))
		if err != nil {
			return "", err
		}
		parts[i] = s
	}
	return "/" + strings.Join(parts, "/"), nil
}
