package webvh

import (
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/multiformats/go-multihash"
	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

const (
	prefix      = "did:webvh:"
	placeholder = "{SCID}"
	scidLength  = 46
	maxID       = 2048 // bytes
)

// ID is a did:webvh identifier, taken apart.
type ID struct {
	SCID string
	host string   // in ASCII
	port string   // empty, or decimal
	path []string // segments, percent-encoded
	text string
}

// ParseID reads a plain DID: without path, query or fragment.
func ParseID(text string) (ID, error) {
	rest, ok := strings.CutPrefix(text, prefix)
	if !ok {
		return ID{}, badID(text, "it does not begin with "+prefix)
	}
	if len(text) > maxID || !utf8.ValidString(text) {
		return ID{}, badID(text, "it is too long, or no text")
	}
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		return ID{}, badID(text, fmt.Sprintf("%q makes it a DID URL", rest[i]))
	}
	scid, place, ok := strings.Cut(rest, ":")
	if !ok {
		return ID{}, badID(text, "it names no domain")
	}
	if err := checkHash(scid); err != nil {
		return ID{}, badID(text, "its SCID is "+err.Error())
	}
	id := ID{SCID: scid, text: text}
	if err := id.place(place); err != nil {
		return ID{}, badID(text, err.Error())
	}
	return id, nil
}

func badID(text, why string) error {
	return &did.Error{Name: did.NameInvalidDID, Reason: fmt.Sprintf("%.300q: %s", text, why), Err: did.ErrInvalid}
}

// checkHash wants the base58 text of a SHA-256 multihash, the only hash of version 1.0.
func checkHash(text string) error {
	if len(text) != scidLength {
		return fmt.Errorf("%.80q, not the text of a SHA-256 multihash", text)
	}
	mh, err := multihash.FromB58String(text)
	if err != nil {
		return fmt.Errorf("%.80q, no multihash: %v", text, err)
	}
	d, err := multihash.Decode(mh)
	if err != nil || d.Code != multihash.SHA2_256 || d.Length != 32 || mh.B58String() != text {
		return fmt.Errorf("%.80q, no SHA-256 multihash", text)
	}
	return nil
}

// place reads what follows the SCID: the domain, its port, and the path.
func (id *ID) place(text string) error {
	parts := strings.Split(text, ":")
	if err := id.domain(parts[0]); err != nil {
		return err
	}
	for _, p := range parts[1:] {
		s, err := segment(p)
		if err != nil {
			return err
		}
		id.path = append(id.path, s)
	}
	return nil
}

var (
	portForm  = regexp.MustCompile(`^[1-9][0-9]{1,4}$`)
	labelForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	// The last label of a name is never a number; browsers take such hosts for IPv4.
	numberForm = regexp.MustCompile(`^([0-9]+|0x[0-9a-f]*)$`)
)

func (id *ID) domain(text string) error {
	name := text
	if i := strings.Index(strings.ToLower(text), "%3a"); i >= 0 {
		name, id.port = text[:i], text[i+3:]
		if n, err := strconv.Atoi(id.port); err != nil || !portForm.MatchString(id.port) || n > 65535 {
			return fmt.Errorf("port %.20q", id.port)
		}
	}
	// Percent-encoding may hide letters of other scripts, never ASCII: a host must not
	// turn into another one when somebody decodes it once more.
	decoded, err := url.PathUnescape(name)
	if err != nil || !utf8.ValidString(decoded) || strings.Count(decoded, "%") > 0 {
		return fmt.Errorf("escape in the domain %.100q", name)
	}
	for i := 0; i+2 < len(name); i++ {
		if name[i] == '%' && name[i+1] < '8' {
			return fmt.Errorf("escaped ASCII in the domain %.100q", name)
		}
	}
	ascii, err := idna.Lookup.ToASCII(norm.NFKC.String(decoded))
	if err != nil {
		return fmt.Errorf("domain %.100q: %v", decoded, err)
	}
	labels := strings.Split(ascii, ".")
	if len(ascii) > 253 || len(labels) < 2 {
		return fmt.Errorf("%.100q is not a full domain name", ascii)
	}
	for _, l := range labels {
		if !labelForm.MatchString(l) {
			return fmt.Errorf("%.100q is not a domain name", ascii)
		}
	}
	if numberForm.MatchString(labels[len(labels)-1]) {
		return fmt.Errorf("%.100q is an IP address", ascii)
	}
	id.host = ascii
	return nil
}

// segment checks a segment of the path and returns it as a URL has it.
func segment(text string) (string, error) {
	if text == "" {
		return "", fmt.Errorf("empty path segment")
	}
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '%':
			if i+2 >= len(text) || !isHex(text[i+1]) || !isHex(text[i+2]) {
				return "", fmt.Errorf("escape in the path segment %.100q", text)
			}
			out.WriteString(strings.ToUpper(text[i : i+3]))
			i += 2
		case c >= utf8.RuneSelf:
			fmt.Fprintf(&out, "%%%02X", c)
		case isUnreserved(c) || strings.IndexByte("!$&'()*+,;=@", c) >= 0:
			out.WriteByte(c)
		default:
			return "", fmt.Errorf("character %q in the path", c)
		}
	}
	// Whoever serves or fetches the file may decode more than once.
	for plain, rounds := text, 0; ; rounds++ {
		if plain == "." || plain == ".." || plain != strings.TrimSpace(plain) || !utf8.ValidString(plain) ||
			strings.ContainsAny(plain, "/\\") || strings.ContainsFunc(plain, unicode.IsControl) {
			return "", fmt.Errorf("path segment %.100q leads elsewhere", text)
		}
		next, err := url.PathUnescape(plain)
		if err != nil || next == plain {
			return out.String(), nil
		}
		if rounds > 8 {
			return "", fmt.Errorf("path segment %.100q is escaped too often", text)
		}
		plain = next
	}
}

func isUnreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// String is the DID as it was written.
func (id ID) String() string { return id.text }

// location is the part behind the SCID.
func (id ID) location() string {
	_, place, _ := strings.Cut(strings.TrimPrefix(id.text, prefix), ":")
	return place
}

// BaseURL is where the files of the DID are, with a slash at its end: the paths of DID
// URLs begin there.
func (id ID) BaseURL() string {
	u := "https://" + id.host
	if id.port != "" {
		u += ":" + id.port
	}
	u += "/"
	if len(id.path) > 0 {
		u += strings.Join(id.path, "/") + "/"
	}
	return u
}

// LogURL is where the log of the DID is published.
func (id ID) LogURL() string { return id.file("did.jsonl") }

// WitnessURL is where the proofs of its witnesses are.
func (id ID) WitnessURL() string { return id.file("did-witness.json") }

func (id ID) file(name string) string {
	if len(id.path) == 0 {
		return id.BaseURL() + ".well-known/" + name
	}
	return id.BaseURL() + name
}
