package horizon

import (
	"strings"
	"testing"
	"time"
)

func TestJudge(t *testing.T) {
	now := time.Date(2026, 5, 3, 14, 30, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	// of makes a state from a good one.
	of := func(changes ...func(*State)) State {
		s := good(now)
		for _, fn := range changes {
			fn(&s)
		}
		return s
	}
	newest := func(state PinState, copies int) func(*State) {
		return func(s *State) { s.Pins[0].State, s.Pins[0].Copies, s.Egress.Copies = state, copies, copies }
	}
	pending := func(s *State) { s.Pending = Pending{Ops: 9, Bytes: 2_100_000_000, Oldest: ago(time.Minute)} }
	away := func(s *State) { s.Egress.State, s.Egress.Since = EgressUnreachable, ago(27*time.Minute) }
	noEgress := func(s *State) { s.Egress, s.Pins, s.Peers = Egress{}, nil, nil }
	four := Flow{Waiting: 2_100_000_000, Rate: 8e6, Left: 4*time.Minute + 10*time.Second}
	for name, c := range map[string]struct {
		state    State
		flow     Flow
		age      time.Duration
		level    Level
		sentence string
		detail   string // a part
		do       string // a part of the commands and words
	}{
		"safe":           {of(), Flow{}, 0, Safe, "Everything is stored in 3 places.", "close this computer at any time", ""},
		"all of it here": {of(func(s *State) { s.Egress.Here = true }), Flow{}, 0, Care, "Everything is stored in 3 places, but all of them are on this computer.", "all copies are gone", "ipfscloud egress use"},
		"one is wanted":  {of(func(s *State) { s.Egress.Copies, s.Egress.Target = 1, 1 }), Flow{}, 0, Safe, "Everything is stored in 1 place.", "", ""},
		"more than want": {of(func(s *State) { s.Egress.Copies = 4 }), Flow{}, 0, Safe, "Everything is stored in 4 places.", "", ""},
		"no target":      {of(func(s *State) { s.Egress.Copies, s.Egress.Target = 0, 0 }), Flow{}, 0, Care, "The newest changes are only on this computer.", "", ""},

		"on its way":   {of(pending), four, 0, Busy, "2.1 GB is only on this computer, about 4 minutes left.", "Keep this computer on", ""},
		"no estimate":  {of(pending), Flow{Waiting: 2_100_000_000}, 0, Busy, "2.1 GB is only on this computer.", "", ""},
		"soon":         {of(pending), Flow{Waiting: 12_000, Left: 3 * time.Second}, 0, Busy, "12 kB is only on this computer, less than a minute left.", "", ""},
		"no bytes":     {of(func(s *State) { s.Pending = Pending{Ops: 2} }), Flow{}, 0, Busy, "2 changes are only on this computer.", "", ""},
		"one change":   {of(func(s *State) { s.Pending = Pending{Ops: 1} }), Flow{}, 0, Busy, "1 change is only on this computer.", "", ""},
		"stands still": {of(pending), Flow{Waiting: 2_100_000_000, Still: ago(3 * time.Minute)}, 0, Care, "2.1 GB is only on this computer, and nothing moves since 14:27.", "kept", "ipfscloud status"},
		"a pause":      {of(pending), Flow{Waiting: 2_100_000_000, Still: ago(time.Minute)}, 0, Busy, "2.1 GB is only on this computer.", "", ""},
		"waits, away":  {of(pending, away), four, 0, Care, "2.1 GB is only on this computer: Egress does not answer.", "as soon as Egress answers", "egress status"},

		"copying":       {of(newest(PinCopying, 1)), Flow{}, 0, Busy, "Everything is stored in 1 of 3 places; copies are being made.", "the other peers copy", ""},
		"not yet one":   {of(newest(PinQueued, 0)), Flow{}, 0, Busy, "Everything is stored in 0 of 3 places; copies are being made.", "Keep this computer on", ""},
		"short":         {of(newest(PinShort, 2), broken), Flow{}, 0, Care, "Everything is stored in 2 of 3 places.", "office is down.", "egress peers"},
		"none":          {of(newest(PinFailed, 0)), Flow{}, 0, Care, "The newest changes are only on this computer.", "No peer holds them since 14:28", "egress peers"},
		"lost":          {of(newest(PinLost, 0)), Flow{}, 0, Danger, "Stop: the other copies are gone. Your data is only on this computer.", "", "egress status"},
		"away":          {of(away), Flow{}, 0, Care, "The copies cannot be counted: Egress does not answer.", "27 minutes ago, the newest commit was in 3 places", "egress status"},
		"refused":       {of(func(s *State) { s.Egress.State = EgressRefused }), Flow{}, 0, Care, "The copies cannot be counted: Egress does not let us in.", "", ""},
		"an older fail": {of(func(s *State) { s.Pins[2].State = PinFailed }), Flow{}, 0, Care, "Everything is stored in 3 places, but 1 older commit lacks copies.", "", "retry"},

		"alone":          {of(noEgress), Flow{}, 0, Care, "There is one copy of your data: on this computer.", "Everything is committed", "ipfscloud egress use URL"},
		"another way":    {of(noEgress, func(s *State) { s.Egress.Hint = "ipfscloud egress join TOKEN" }), Flow{}, 0, Care, "There is one copy of your data: on this computer.", "", "egress join TOKEN"},
		"alone, waiting": {of(noEgress, pending), four, 0, Care, "There is one copy of your data: on this computer.", "2.1 GB wait to be committed, about 4 minutes left.", "egress use"},
		"alone, stuck":   {of(noEgress, pending), Flow{Waiting: 1, Still: ago(time.Hour)}, 0, Care, "There is one copy of your data, on this computer, and changes are not being committed.", "not lost", "ipfscloud status"},

		"phrase":    {of(func(s *State) { s.PhrasePending = true }), Flow{}, 0, Care, "Everything is stored in 3 places, but only this computer can open it.", "", "ipfscloud id phrase"},
		"read-only": {of(func(s *State) { s.Drive.State = ReadOnly }), Flow{}, 0, Care, "Everything is stored in 3 places, but the drive is read-only.", "", "ipfscloud status"},
		"reads":     {of(func(s *State) { s.Drive.State, s.Pins, s.Egress.Copies = ReadOnly, nil, 0 }), Flow{}, 0, Unknown, "This computer only reads the drive, and does not count its copies.", "says where they are", ""},
		"displaced": {of(pending, func(s *State) { s.Drive.State = ReadOnly }), four, 0, Care, "2.1 GB is only on this computer, and the drive is read-only.", "not copied while that is so", "aside list"},
		"warning":   {of(func(s *State) { s.Alerts = []Alert{{Severity: Warning, Text: "w"}} }), Flow{}, 0, Care, "Everything is stored in 3 places, but there is a warning.", "", "below"},
		"notice":    {of(func(s *State) { s.Alerts = []Alert{{Severity: Notice, Text: "n"}} }), Flow{}, 0, Safe, "Everything is stored in 3 places.", "", ""},
		"stopped":   {of(func(s *State) { s.Drive.State = Stopped }, pending), four, 0, Care, "The drive is not mounted.", "2.1 GB wait in this computer's journal", "ipfscloud mount /home/ada/Cloud"},
		"critical": {of(func(s *State) {
			s.Alerts = []Alert{{Severity: Warning, Text: "w"}, {Severity: Critical, Text: "a block was changed", Action: "Look:", Command: "ipfscloud fsck"}}
		}, pending), four, 0, Danger, "Stop: a block was changed.", "stored in 3 places besides", "Look: ipfscloud fsck"},
		"full": {of(func(s *State) { s.Store.Full = true }), Flow{}, 0, Danger, "Stop: the disk of this computer is full.", "New data is refused", "Make room"},
		"old":  {of(), Flow{}, time.Minute, Unknown, "No news from the drive since 14:29.", "what was known then", "ipfscloud status"},
	} {
		v := Judge(now, now.Add(-c.age), c.state, c.flow)
		var do []string
		for _, s := range v.Do {
			do = append(do, s.Text+" "+s.Command)
		}
		if v.Level != c.level || v.Sentence != c.sentence || !strings.Contains(v.Detail, c.detail) || !strings.Contains(strings.Join(do, "\n"), c.do) {
			t.Errorf("%s: %s %q\n\t%q\n\t%q", name, v.Level, v.Sentence, v.Detail, do)
		}
		if c.level != Safe && c.level != Busy && len(v.Do) == 0 {
			t.Errorf("%s: nothing to do", name)
		}
		if strings.Contains(v.Sentence+v.Detail, "  ") || strings.Contains(v.Sentence+v.Detail, "..") {
			t.Errorf("%s: %q %q", name, v.Sentence, v.Detail)
		}
	}
}

// Whatever is wrong, alone or together, nothing is called safe.
func TestNeverSafeByMistake(t *testing.T) {
	now := time.Now()
	wrong := []func(*State){
		func(s *State) { s.Egress.Copies = 2 },
		func(s *State) { s.Pending.Ops = 1 },
		func(s *State) { s.Egress.State = EgressUnreachable },
		func(s *State) { s.Egress.Configured = false },
		func(s *State) { s.PhrasePending = true },
		func(s *State) { s.Drive.State = ReadOnly },
		func(s *State) { s.Drive.State = Stopped },
		func(s *State) { s.Store.Full = true },
		func(s *State) { s.Alerts = append(s.Alerts, Alert{Severity: Critical, Text: "x"}) },
		func(s *State) { s.Alerts = append(s.Alerts, Alert{Severity: Warning, Text: "x"}) },
		func(s *State) { s.Pins[1].State = PinLost },
		func(s *State) { s.Pins[0].State = PinLost },
	}
	for set := 0; set < 1<<len(wrong); set++ {
		s := good(now)
		for i, fn := range wrong {
			if set&(1<<i) != 0 {
				fn(&s)
			}
		}
		if v := Judge(now, now, s, Flow{}); (v.Level == Safe) != (set == 0) || v.Sentence == "" {
			t.Fatalf("%012b: %s %q", set, v.Level, v.Sentence)
		}
	}
}

func TestTexts(t *testing.T) {
	for n, want := range map[int64]string{-1: "0 B", 0: "0 B", 999: "999 B", 1000: "1.0 kB", 9949: "9.9 kB", 9950: "10 kB", 999_499: "999 kB",
		999_500: "1.0 MB", 2_100_000_000: "2.1 GB", 1 << 62: "4.6 EB", 1<<63 - 1: "9.2 EB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: %s, not %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "a few seconds", 9 * time.Second: "a few seconds", 14 * time.Second: "10 seconds", 49 * time.Second: "50 seconds",
		50 * time.Second: "1 minute", 250 * time.Second: "4 minutes", 59 * time.Minute: "1 hour", 26 * time.Hour: "26 hours", 40 * time.Hour: "2 days"} {
		if got := spanText(d); got != want {
			t.Errorf("%s: %s, not %s", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1234: "-1,234"} {
		if got := countText(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
	if got := clip("aäöü€", 3); got != "aä…" {
		t.Error(got)
	}
	if got := clip("aäö", 3); got != "aäö" {
		t.Error(got)
	}
}
