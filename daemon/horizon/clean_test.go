package horizon

import (
	"strings"
	"testing"
)

// What others wrote turns nothing around: not on the page, in its news, or in metrics.
func TestControlsOfStrangers(t *testing.T) {
	t.Parallel()
	s := serve(t, anHour)
	const evil = "zzz\u202egpj\x1b[2J\u2066"
	s.source.change(func(st *State) {
		st.Version, st.Drive.Mountpoint = evil, "/"+evil
		st.Peers = []Peer{{Name: evil, ID: evil, Version: evil, Up: true, Error: evil, Sees: []string{evil}}}
		st.Alerts = []Alert{{Severity: Warning, Text: evil, Action: evil, Command: evil}}
		st.Errors = []Failure{{Part: evil, Text: evil}}
		st.Pins = []Pin{{CID: "bafy", Name: evil, State: PinFailed, Peers: []PinPeer{{Name: evil, Status: evil, Error: evil}}}}
		st.Claims = []Claim{{Text: evil, By: evil}}
		st.Devices = []Device{{Name: evil}}
	})
	cookie, _ := s.login()
	var page string
	eventually(t, "the page", func() bool {
		_, page = s.ask("GET", "/", "", "Cookie", cookie)
		return strings.Contains(page, "zzz")
	})
	if strings.ContainsAny(page, evil[3:6]+"\u2066\x1b") || !strings.Contains(page, `zzz\u202egpj`) {
		t.Error("the page has controls of strangers")
	}
	labels := valid([]string{evil})
	if strings.ContainsAny(labels[0], "\u202e\u2066\x1b") {
		t.Errorf("a label: %q", labels)
	}
}
