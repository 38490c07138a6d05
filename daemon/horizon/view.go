package horizon

import (
	"cmp"
	"fmt"
	"html/template"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What a page shows at most, so that it stays small whatever there is.
const (
	rowsCopies  = 20
	rowsPeers   = 30
	rowsCommits = 10
	rowsAlerts  = 6
	rowsErrors  = 12
	rowsMisc    = 12
	rowsClaims  = 4
	peersInRow  = 4
)

// parts are the elements that live news replace the inside of; each is a template.
func parts() []string {
	return []string{"verdict", "alerts", "tiles", "queue", "hour", "copies", "peers", "commits", "identity", "observer", "errors"}
}

// query is what a person chose to see of the copies.
type query struct {
	State PinState
	Text  string
	Page  int // from 1
}

func pinStates() []PinState {
	return []PinState{PinLost, PinFailed, PinShort, PinWanted, PinQueued, PinCopying, PinHeld}
}

func queryOf(v url.Values) query {
	q := query{Text: clip(strings.TrimSpace(v.Get("q")), 100), Page: 1}
	if s := PinState(v.Get("state")); slices.Contains(pinStates(), s) {
		q.State = s
	}
	if n, err := strconv.Atoi(v.Get("page")); err == nil && n > 0 {
		q.Page = n
	}
	return q
}

// link is the page with another choice.
func (q query) link() string {
	v := url.Values{}
	if q.State != "" {
		v.Set("state", string(q.State))
	}
	if q.Text != "" {
		v.Set("q", q.Text)
	}
	if q.Page > 1 {
		v.Set("page", strconv.Itoa(q.Page))
	}
	return "/?" + v.Encode() + "#copies"
}

func (q query) matches(p Pin) bool {
	if q.State != "" && p.State != q.State {
		return false
	}
	return q.Text == "" || strings.Contains(strings.ToLower(p.Name), strings.ToLower(q.Text)) || strings.Contains(p.CID, q.Text)
}

// filter is one choice of a state, and how many pins it has.
type filter struct {
	State  PinState
	Word   string
	Count  int
	Link   string
	Chosen bool
}

// copiesView is the list of pins as chosen.
type copiesView struct {
	Query      query
	Filters    []filter
	Rows       []Pin
	Found      int
	From, To   int
	Prev, Next string // links
}

// badFirst orders pins by who needs somebody, then the newest.
func badFirst(a, b Pin) int {
	order := pinStates()
	old := map[bool]int{false: 1}
	return cmp.Or(cmp.Compare(slices.Index(order, a.State), slices.Index(order, b.State)), old[a.Newest]-old[b.Newest], b.Since.Compare(a.Since), cmp.Compare(a.CID, b.CID))
}

func copiesOf(pins []Pin, q query) copiesView {
	counts := map[PinState]int{}
	var found []Pin
	for _, p := range pins {
		counts[p.State]++
		if q.matches(p) {
			found = append(found, p)
		}
	}
	slices.SortFunc(found, badFirst)
	pages := max(1, (len(found)+rowsCopies-1)/rowsCopies)
	q.Page = max(1, min(q.Page, pages))
	from := (q.Page - 1) * rowsCopies
	to := min(from+rowsCopies, len(found))
	out := copiesView{Query: q, Rows: found[from:to], Found: len(found), From: from + 1, To: to}
	out.Filters = append(out.Filters, filter{Word: "all", Count: len(pins), Link: query{Text: q.Text}.link(), Chosen: q.State == ""})
	for _, s := range pinStates() {
		if counts[s] > 0 || q.State == s {
			out.Filters = append(out.Filters, filter{State: s, Word: string(s), Count: counts[s],
				Link: query{State: s, Text: q.Text}.link(), Chosen: q.State == s})
		}
	}
	if q.Page > 1 {
		out.Prev = query{q.State, q.Text, q.Page - 1}.link()
	}
	if q.Page < pages {
		out.Next = query{q.State, q.Text, q.Page + 1}.link()
	}
	return out
}

// view is what the templates render.
type view struct {
	State
	Now     time.Time
	At      time.Time
	Err     string
	Verdict Verdict
	Flow    Flow
	Copies  copiesView
	Charts  []Chart
	Graph   template.HTML
	Sight   string // the graph in words
	Sizes   template.HTML
	Rhythm  template.HTML
	CSRF    string
	Said    string
}

func (s *Server) view(snap snapshot, q query) view { return viewOf(time.Now(), snap, q) }

func viewOf(now time.Time, snap snapshot, q query) view {
	v := view{State: snap.state, Now: now, At: snap.at, Err: snap.err, Flow: snap.flow,
		Copies: copiesOf(snap.state.Pins, q), Charts: chartsOf(snap.points)}
	if snap.at.IsZero() {
		v.Verdict = Verdict{Level: Unknown, Sentence: "The drive has not answered yet.", Detail: snap.err}
	} else {
		v.Verdict = Judge(now, snap.at, snap.state, snap.flow)
	}
	// The snapshot belongs to all viewers: it is copied to be ordered.
	v.Alerts = slices.Clone(v.Alerts)
	if i := firstCritical(v.Alerts); i >= 0 && v.Verdict.Level == Danger { // the verdict says it
		v.Alerts = slices.Delete(v.Alerts, i, i+1)
	}
	slices.SortStableFunc(v.Alerts, func(a, b Alert) int { return cmp.Compare(severityRank(a), severityRank(b)) })
	v.Peers = slices.Clone(v.Peers)
	slices.SortStableFunc(v.Peers, func(a, b Peer) int { return cmp.Compare(a.Name, b.Name) })
	v.Graph, v.Sight = peerGraph(v.Peers)
	v.Sizes, v.Rhythm = sizeBars(v.Observer.Sizes), rhythmBars(v.Observer.Rhythm)
	return v
}

func severityRank(a Alert) int {
	return slices.Index([]string{Notice, Warning, Critical}, a.Severity) * -1
}

// Title is the page's, so that a tab says it too.
func (v view) Title() string { return clip(v.Verdict.Sentence, 80) + " – Horizon" }

// first bounds a list.
func first[T any](list []T, n int) []T { return list[:min(n, len(list))] }

// The lists as they are shown, with what is beyond them.

func (v view) ShownAlerts() []Alert       { return first(v.Alerts, rowsAlerts) }
func (v view) MoreAlerts() int            { return len(v.Alerts) - len(v.ShownAlerts()) }
func (v view) ShownPeers() []Peer         { return first(v.Peers, rowsPeers) }
func (v view) MorePeers() int             { return len(v.Peers) - len(v.ShownPeers()) }
func (v view) ShownCommits() []Commit     { return first(v.Commits, rowsCommits) }
func (v view) ShownErrors() []Failure     { return first(v.Errors, rowsErrors) }
func (v view) ShownDevices() []Device     { return first(v.Devices, rowsMisc) }
func (v view) ShownClaims() []Claim       { return first(v.Claims, rowsClaims) }
func (v view) MoreClaims() int            { return len(v.Claims) - len(v.ShownClaims()) }
func (v view) ShownSnapshots() []Snapshot { return first(v.Snapshots, rowsMisc) }

// PeersUp counts the peers that answer.
func (v view) PeersUp() int {
	n := 0
	for _, p := range v.Peers {
		if p.Up {
			n++
		}
	}
	return n
}

// Retriable: trying again makes sense.
func (p Pin) Retriable() bool {
	return p.State == PinFailed || p.State == PinShort || p.State == PinLost || p.State == PinHeld && p.Copies < p.Target
}

// Label is what a person knows the pin by.
func (p Pin) Label() string {
	if p.Name != "" {
		return p.Name
	}
	return short(p.CID)
}

// Holders are the peers that hold it, in a line.
func (p Pin) Holders() string {
	var names []string
	n := 0
	for _, q := range p.Peers {
		if q.Held {
			if n++; n <= peersInRow {
				names = append(names, peerNote(q))
			}
		}
	}
	if n > peersInRow {
		return fmt.Sprintf("%s and %d more", strings.Join(names, ", "), n-peersInRow)
	}
	return strings.Join(names, ", ")
}

// Others are the peers of a row that do not hold it, those with an error first.
func (p Pin) Others() []PinPeer { return first(p.others(), peersInRow) }

// More is how many of those a row does not show.
func (p Pin) More() int { return max(0, len(p.others())-peersInRow) }

func (p Pin) others() []PinPeer {
	list := slices.DeleteFunc(slices.Clone(p.Peers), func(q PinPeer) bool { return q.Held })
	slices.SortStableFunc(list, func(a, b PinPeer) int { return cmp.Compare(peerRank(a), peerRank(b)) })
	return list
}

func peerRank(p PinPeer) int {
	if p.Error != "" {
		return 0
	}
	return 1
}

// peerNote is what a peer reports of a pin, in a line.
func peerNote(p PinPeer) string {
	name := clip(p.Name, 40)
	if name == "" {
		name = short(p.ID)
	}
	if p.Held {
		return name
	}
	note := name + ": " + clip(strings.ReplaceAll(p.Status, "_", " "), 40)
	if p.Error != "" {
		note += ", " + clip(p.Error, 80)
	}
	return note
}

// moment is how long ago something was; what it was exactly stands in its title.
func moment(now, t time.Time) template.HTML {
	if t.IsZero() {
		return "never"
	}
	return template.HTML(`<time datetime="` + t.UTC().Format(time.RFC3339) + `" title="` +
		template.HTMLEscapeString(t.In(now.Location()).Format("2 Jan 2006, 15:04:05")) + `">` + agoText(now, t) + `</time>`)
}
