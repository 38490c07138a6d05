package webvh

import (
	"bytes"
	"encoding/json"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/multiformats/go-multihash"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/jcs"
)

// Entry is one entry of a log: a version of the DID.
type Entry struct {
	VersionID string // number, dash, hash
	Number    int    // counts from 1
	Time      time.Time
	TimeText  string // versionTime as it was written
	ID        ID     // of the document

	hash   string
	state  []byte         // the document as it was written
	body   map[string]any // all but the proof
	params map[string]any
	proofs []map[string]any
}

// parseEntry reads a line. Nothing of it is verified.
func parseEntry(line []byte) (*Entry, error) {
	if len(line) > MaxEntry {
		return nil, invalid(KindLog, "%d bytes, at most %d", len(line), MaxEntry)
	}
	all, err := jcs.Object(line)
	if err != nil {
		return nil, invalid(KindLog, "%v", err)
	}
	e := &Entry{body: all}
	for name := range all {
		switch name {
		case "versionId", "versionTime", "parameters", "state", "proof":
		default:
			return nil, invalid(KindLog, "unknown member %.80q", name)
		}
	}
	var ok bool
	if e.VersionID, ok = all["versionId"].(string); !ok {
		return nil, invalid(KindLog, "no versionId")
	}
	if e.Number, e.hash, ok = splitVersion(e.VersionID); !ok {
		return nil, invalid(KindLog, "versionId %.200q is not a number, a dash and a hash", e.VersionID)
	}
	if e.TimeText, ok = all["versionTime"].(string); !ok {
		return nil, invalid(KindTime, "no versionTime")
	}
	if e.Time, ok = parseTime(e.TimeText); !ok {
		return nil, invalid(KindTime, "versionTime %.80q is no UTC time", e.TimeText)
	}
	if e.params, ok = all["parameters"].(map[string]any); !ok {
		return nil, invalid(KindParameters, "no parameters")
	}
	if e.proofs, err = parseProofs(all["proof"]); err != nil {
		return nil, err
	}
	delete(all, "proof")
	if err := e.parseState(line); err != nil {
		return nil, err
	}
	return e, nil
}

func (e *Entry) parseState(line []byte) error {
	state, ok := e.body["state"].(map[string]any)
	if !ok {
		return invalid(KindDocument, "no state")
	}
	text, _ := state["id"].(string)
	var err error
	if e.ID, err = ParseID(text); err != nil {
		return invalid(KindDocument, "id of the document: %v", err)
	}
	// The line is known to be JSON with each name once.
	var raw struct {
		State json.RawMessage `json:"state"`
	}
	if err := json.Unmarshal(line, &raw); err != nil {
		return invalid(KindLog, "%v", err)
	}
	e.state = bytes.TrimSpace(raw.State)
	return nil
}

func parseProofs(v any) ([]map[string]any, error) {
	list, ok := v.([]any)
	if one, is := v.(map[string]any); is {
		list, ok = []any{one}, true
	}
	if !ok || len(list) == 0 || len(list) > MaxProofs {
		return nil, invalid(KindProof, "no list of 1 to %d proofs", MaxProofs)
	}
	var proofs []map[string]any
	for _, p := range list {
		o, ok := p.(map[string]any)
		if !ok {
			return nil, invalid(KindProof, "a proof is no object")
		}
		proofs = append(proofs, o)
	}
	return proofs, nil
}

// splitVersion reads a versionId; the number has one spelling.
func splitVersion(text string) (n int, hash string, ok bool) {
	number, hash, ok := strings.Cut(text, "-")
	n, err := strconv.Atoi(number)
	if !ok || err != nil || n < 1 || strconv.Itoa(n) != number || checkHash(hash) != nil {
		return 0, "", false
	}
	return n, hash, true
}

func versionID(n int, hash string) string { return strconv.Itoa(n) + "-" + hash }

// parseTime reads a time in UTC, to the second or finer.
func parseTime(text string) (time.Time, bool) {
	if !strings.HasSuffix(text, "Z") && !strings.HasSuffix(text, "+00:00") {
		return time.Time{}, false
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || len(text) > 40 || strings.Contains(text, ",") {
		return time.Time{}, false
	}
	return at.UTC(), true
}

// State is the document as the entry declares it.
func (e *Entry) State() []byte { return bytes.Clone(e.state) }

// Line is the entry in canonical form, with its newline. What was hashed and signed is in
// it byte for byte, whatever the spacing of the line it was read from.
func (e *Entry) Line() ([]byte, error) {
	all := maps.Clone(e.body)
	list := make([]any, len(e.proofs))
	for i := range e.proofs {
		list[i] = e.proofs[i]
	}
	all["proof"] = list
	text, err := jcs.Marshal(all)
	if err != nil {
		return nil, err
	}
	return append(text, '\n'), nil
}

// hashed is the text that the entry's hash is made of: the entry without proofs, with the
// version before in place of its own.
func (e *Entry) hashed(before string) ([]byte, error) {
	body := maps.Clone(e.body)
	body["versionId"] = before
	return jcs.Marshal(body)
}

// scidText is the text that the SCID is made of: the first entry with the placeholder
// wherever the SCID stands.
func (e *Entry) scidText(scid string) ([]byte, error) {
	text, err := e.hashed(placeholder)
	if err != nil {
		return nil, err
	}
	return jcs.Canonical(bytes.ReplaceAll(text, []byte(scid), []byte(placeholder)))
}

// HashKey is the hash of a multikey, as nextKeyHashes has it.
func HashKey(multikey string) string { return hashText([]byte(multikey)) }

func hashText(text []byte) string {
	sum, err := multihash.Sum(text, multihash.SHA2_256, -1)
	if err != nil {
		panic(err) // SHA-256 is always there
	}
	return sum.B58String()
}

// splitLog cuts a log into its lines.
func splitLog(log []byte) ([][]byte, error) {
	if len(log) > MaxLog {
		return nil, invalid(KindLog, "%d bytes, at most %d", len(log), MaxLog)
	}
	log = bytes.TrimRight(log, "\r\n")
	if len(log) == 0 {
		return nil, invalid(KindLog, "the log is empty")
	}
	if n := bytes.Count(log, []byte("\n")) + 1; n > MaxEntries {
		return nil, invalid(KindLog, "%d entries, at most %d", n, MaxEntries)
	}
	return bytes.Split(log, []byte("\n")), nil
}

// version is how the rest of the program names a version.
func (e *Entry) version() did.Version {
	return did.Version{Number: uint64(e.Number), ID: e.VersionID}
}
