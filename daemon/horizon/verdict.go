package horizon

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Level is how good a verdict is.
type Level string

// The levels, from good to bad.
const (
	Safe    Level = "safe"    // all copies are there
	Busy    Level = "busy"    // copies are being made
	Care    Level = "care"    // somebody should do something
	Danger  Level = "stop"    // data may be lost
	Unknown Level = "unknown" // nobody knows
)

// Verdict is the answer to "is my data safe?".
type Verdict struct {
	Level    Level
	Sentence string
	Detail   string
	Do       []Step
}

// Step is something to do: in words, by a command, or both.
type Step struct{ Text, Command string }

const (
	// egressCommand makes the second copy.
	egressCommand = "ipfscloud egress use URL"
	// stale is when the newest state is too old to say anything by it.
	stale = 20 * time.Second
	// stuck is how long a queue may stand still before it is called that.
	stuck = 2 * time.Minute
)

// Judge says whether the data is safe. The worst news is said first; what is said as safe
// has been reported by those who hold it. Seen is when the state was taken.
func Judge(now, seen time.Time, s State, f Flow) Verdict {
	if now.Sub(seen) > stale {
		return Verdict{Level: Unknown, Sentence: "No news from the drive since " + clockText(now, seen) + ".",
			Detail: "What stands below is what was known then.",
			Do:     []Step{{"See whether the daemon is well:", "ipfscloud status"}}}
	}
	if i := firstCritical(s.Alerts); i >= 0 {
		a := s.Alerts[i]
		return Verdict{Level: Danger, Sentence: "Stop: " + sentence(a.Text), Detail: held(s), Do: steps(a)}
	}
	if s.Store.Full {
		return Verdict{Level: Danger, Sentence: "Stop: the disk of this computer is full.",
			Detail: "New data is refused. " + held(s), Do: []Step{{"Make room on this computer's disk, or delete files from the drive.", ""}}}
	}
	if s.Drive.State == Stopped {
		return stoppedVerdict(s)
	}
	v := placeVerdict(now, s, f)
	return qualify(v, s)
}

// Glance is Judge without what went before: it tells of no rate, and of nothing that stands
// still.
func Glance(now time.Time, s State) Verdict {
	var h history
	h.add(now, s)
	return Judge(now, now, s, h.flow())
}

// placeVerdict says where the data is.
func placeVerdict(now time.Time, s State, f Flow) Verdict {
	switch {
	case !s.Egress.Configured:
		return aloneVerdict(now, s, f)
	case f.Waiting > 0 || s.Pending.Ops > 0:
		return waitingVerdict(now, s, f)
	}
	e, target := s.Egress, max(1, s.Egress.Target)
	switch {
	case lost(s):
		return Verdict{Level: Danger, Sentence: "Stop: the other copies are gone. Your data is only on this computer.",
			Detail: "Peers that held it no longer do. Copies are asked for again.",
			Do:     []Step{{"Keep this computer and its disk as they are, and look at the peers.", "ipfscloud egress status"}}}
	case down(e):
		return Verdict{Level: Care, Sentence: "The copies cannot be counted: Egress " + trouble(e) + ".",
			Detail: fmt.Sprintf("When it last answered, %s, the newest commit was in %s.", agoText(now, e.Since), places(e.Copies)),
			Do:     []Step{{"Look whether its machines are up:", "ipfscloud egress status"}}}
	case e.Copies > 0 && e.Unchecked != "":
		return Verdict{Level: Busy, Sentence: "Copies are in " + places(e.Copies) + "; it is not sure yet that they count.",
			Detail: sentence(e.Unchecked) + " Keep this computer on."}
	case e.Copies >= target:
		return Verdict{Level: Safe, Sentence: "Everything is stored in " + places(e.Copies) + ".",
			Detail: "You can close this computer at any time: the copies are on other machines."}
	case moving(s):
		v := Verdict{Level: Busy, Sentence: fmt.Sprintf("Everything is stored in %d of %d places; copies are being made.", e.Copies, target),
			Detail: "Keep this computer on until they are."}
		if e.Copies > 0 {
			v.Detail = "You can close this computer: the other peers copy from each other."
		}
		return v
	case e.Copies == 0 && s.Drive.State == ReadOnly && !keeps(s):
		return Verdict{Level: Unknown, Sentence: "This computer only reads the drive, and does not count its copies.",
			Detail: "The device that writes the drive says where they are."}
	case e.Copies == 0:
		return Verdict{Level: Care, Sentence: "The newest changes are only on this computer.",
			Detail: "No peer holds them" + since(now, e.Since) + "." + downPeers(s),
			Do:     []Step{{"See what the peers say:", "ipfscloud egress peers"}}}
	}
	return Verdict{Level: Care, Sentence: fmt.Sprintf("Everything is stored in %d of %d places.", e.Copies, target),
		Detail: fmt.Sprintf("%s missing%s.%s", plural(target-e.Copies, "copy is", "copies are"), since(now, e.Since), downPeers(s)),
		Do:     []Step{{"Bring the peer back, or let another take its part:", "ipfscloud egress peers"}}}
}

func aloneVerdict(now time.Time, s State, f Flow) Verdict {
	hint := s.Egress.Hint
	if hint == "" {
		hint = egressCommand
	}
	v := Verdict{Level: Care, Sentence: "There is one copy of your data: on this computer.",
		Detail: "If its disk fails, the data is gone.",
		Do:     []Step{{"Keep copies on other machines:", hint}}}
	switch {
	case s.Pending.Ops == 0 && s.Pending.Bytes == 0:
		v.Detail = "Everything is committed. " + v.Detail
	case f.stuck(now):
		v.Sentence = "There is one copy of your data, on this computer, and changes are not being committed."
		v.Detail = fmt.Sprintf("%s have been waiting in the journal; nothing moved%s. They are not lost.", bytesText(s.Pending.Bytes), since(now, f.Still))
		v.Do = append([]Step{{"See why:", "ipfscloud status"}}, v.Do...)
	default:
		v.Detail = strings.TrimSuffix(waitText(f.Waiting, s.Pending.Ops), ".") + " to be committed" + left(f) + ". " + v.Detail
	}
	return v
}

func waitingVerdict(now time.Time, s State, f Flow) Verdict {
	what := bytesText(f.Waiting) + " is only on this computer"
	if f.Waiting == 0 {
		what = plural(s.Pending.Ops, "change is", "changes are") + " only on this computer"
	}
	switch {
	case s.Drive.State == ReadOnly:
		return Verdict{Level: Care, Sentence: what + ", and the drive is read-only.",
			Detail: "It is kept in this computer's journal, and is not copied while that is so. Leave this computer's disk as it is.",
			Do:     []Step{{"See what only this computer has:", "ipfscloud aside list"}}}
	case down(s.Egress):
		return Verdict{Level: Care, Sentence: what + ": Egress " + trouble(s.Egress) + ".",
			Detail: "It is kept, and copied as soon as Egress answers. Leave this computer's disk as it is.",
			Do:     []Step{{"Look whether its machines are up:", "ipfscloud egress status"}}}
	case f.stuck(now):
		return Verdict{Level: Care, Sentence: what + ", and nothing moves" + since(now, f.Still) + ".",
			Detail: "It is kept in this computer's journal and store." + downPeers(s),
			Do:     []Step{{"See why:", "ipfscloud status"}}}
	}
	return Verdict{Level: Busy, Sentence: what + left(f) + ".", Detail: "Keep this computer on until it is copied."}
}

func stoppedVerdict(s State) Verdict {
	v := Verdict{Level: Care, Sentence: "The drive is not mounted.", Detail: held(s),
		Do: []Step{{"Mount it:", strings.TrimSpace("ipfscloud mount " + s.Drive.Mountpoint)}}}
	if s.Pending.Ops > 0 {
		v.Detail = waitText(s.Pending.Bytes, s.Pending.Ops) + " in this computer's journal until it is. " + v.Detail
	}
	return v
}

// qualify adds what is not about the newest data and yet makes it less than safe.
func qualify(v Verdict, s State) Verdict {
	worse := func(but string, step Step) {
		if v.Level == Safe {
			v.Level = Care
			v.Sentence = strings.TrimSuffix(v.Sentence, ".") + ", but " + but + "."
		}
		v.Do = append(v.Do, step)
	}
	if s.Drive.State == ReadOnly {
		why := Step{"See why nothing can be written:", "ipfscloud status"}
		if s.Drive.Because != "" {
			why = Step{"Nothing can be written: " + sentence(s.Drive.Because), ""}
		}
		worse("the drive is read-only", why)
	}
	if s.Egress.Here && v.Level == Safe {
		worse("all of them are on this computer", Step{"Keep copies on other machines:", egressCommand})
		v.Detail = "That is for trying it out: if this computer's disk fails, all copies are gone."
	}
	if s.PhrasePending {
		worse("only this computer can open it", Step{"Write down the recovery phrase, and confirm it:", "ipfscloud id phrase"})
	}
	// With the newest short of copies the older ones are, too, and for the same reason.
	if n := badPins(s); n > 0 && v.Level == Safe {
		worse(plural(n, "older commit lacks copies", "older commits lack copies"), Step{"Look at the copies below, and retry them.", ""})
	}
	if slices.ContainsFunc(s.Alerts, func(a Alert) bool { return a.Severity == Warning }) && v.Level == Safe {
		worse("there is a warning", Step{"What to do about it stands below.", ""})
	}
	return v
}

// held says what is known to be safe, beside bad news.
func held(s State) string {
	switch {
	case !s.Egress.Configured:
		return "There is one copy of your data, on this computer: leave its disk as it is."
	case s.Egress.Copies > 0:
		return "The newest commit is stored in " + places(s.Egress.Copies) + " besides this computer."
	}
	return "The newest commit is only on this computer: leave its disk as it is."
}

func places(n int) string { return plural(n, "place", "places") }

func left(f Flow) string {
	if f.Left <= 0 {
		return ""
	}
	return ", " + leftText(f.Left)
}

func waitText(bytes int64, ops int) string {
	if bytes == 0 {
		return plural(ops, "change waits", "changes wait")
	}
	return bytesText(bytes) + " wait"
}

func since(now, t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " since " + clockText(now, t)
}

func down(e Egress) bool { return e.State == EgressUnreachable || e.State == EgressRefused }

func trouble(e Egress) string {
	if e.State == EgressRefused {
		return "does not let us in"
	}
	return "does not answer"
}

func newest(s State) (Pin, bool) {
	for _, p := range s.Pins {
		if p.Newest {
			return p, true
		}
	}
	return Pin{}, false
}

// keeps tells whether this computer has the newest commit copied.
func keeps(s State) bool {
	_, ok := newest(s)
	return ok
}

// lost: peers held the newest commit, and none does.
func lost(s State) bool {
	p, ok := newest(s)
	return ok && p.State == PinLost
}

// moving: copies of the newest commit are on their way.
func moving(s State) bool {
	p, ok := newest(s)
	return ok && (p.State == PinWanted || p.State == PinQueued || p.State == PinCopying)
}

// badPins counts pins, besides the newest, that need somebody.
func badPins(s State) int {
	n := 0
	for _, p := range s.Pins {
		if !p.Newest && (p.State == PinFailed || p.State == PinLost || p.State == PinShort) {
			n++
		}
	}
	return n
}

func downPeers(s State) string {
	var names []string
	for _, p := range s.Peers {
		if !p.Up {
			names = append(names, clip(p.Name, 40))
		}
	}
	switch n := len(names); {
	case n == 0:
		return ""
	case n > 3:
		return fmt.Sprintf(" %d peers are down.", n)
	case n == 1:
		return " The peer " + names[0] + " is down."
	default:
		return " The peers " + strings.Join(names[:n-1], ", ") + " and " + names[n-1] + " are down."
	}
}

// firstCritical is the alert that the verdict is about, or -1.
func firstCritical(alerts []Alert) int {
	return slices.IndexFunc(alerts, func(a Alert) bool { return a.Severity == Critical })
}

// sentence bounds a text and ends it as one.
func sentence(text string) string {
	text = clip(strings.TrimSpace(text), 200)
	if text == "" || strings.HasSuffix(text, ".") || strings.HasSuffix(text, "!") || strings.HasSuffix(text, "…") {
		return text
	}
	return text + "."
}

func steps(a Alert) []Step {
	if a.Action == "" && a.Command == "" {
		return nil
	}
	return []Step{{clip(a.Action, 300), clip(a.Command, 200)}}
}
