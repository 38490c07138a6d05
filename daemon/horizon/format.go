package horizon

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// bytesText says a size as people and disk makers do: 1 kB is 1000 B.
func bytesText(n int64) string {
	if n < 0 {
		n = 0
	}
	if n < 1000 {
		return strconv.FormatInt(n, 10) + " B"
	}
	v := float64(n)
	for _, unit := range []string{"kB", "MB", "GB", "TB", "PB", "EB"} {
		v /= 1000
		if v < 9.95 {
			return fmt.Sprintf("%.1f %s", v, unit)
		}
		if v < 999.5 {
			return fmt.Sprintf("%.0f %s", v, unit)
		}
	}
	return "a lot"
}

// blockText says a padded size, which is a round one in powers of two.
func blockText(n int64) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return countText(n>>20) + " MiB"
	case n >= 1<<10 && n%(1<<10) == 0:
		return countText(n>>10) + " KiB"
	}
	return bytesText(n)
}

// rateText says a speed.
func rateText(perSecond float64) string { return bytesText(int64(perSecond)) + "/s" }

// countText groups thousands.
func countText(n int64) string {
	s := strconv.FormatInt(n, 10)
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// plural is a number and what it counts.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return countText(int64(n)) + " " + many
}

// spanText says a length of time in one unit, as a person would.
func spanText(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return "a few seconds"
	case d < 50*time.Second:
		return fmt.Sprintf("%d seconds", int(d.Round(10*time.Second)/time.Second))
	case d < 50*time.Minute:
		return plural(max(1, int(d.Round(time.Minute)/time.Minute)), "minute", "minutes")
	case d < 36*time.Hour:
		return plural(max(1, int(d.Round(time.Hour)/time.Hour)), "hour", "hours")
	}
	return plural(int(d.Round(24*time.Hour)/(24*time.Hour)), "day", "days")
}

// leftText is an estimate: never more exact than it is known.
func leftText(d time.Duration) string {
	if d < 50*time.Second {
		return "less than a minute left"
	}
	return "about " + spanText(d) + " left"
}

// agoText says how long ago something was.
func agoText(now, t time.Time) string {
	switch d := now.Sub(t); {
	case t.IsZero():
		return "never"
	case d < 10*time.Second:
		return "just now"
	default:
		return spanText(d) + " ago"
	}
}

// clockText is a time of today, or with its day.
func clockText(now, t time.Time) string {
	switch {
	case t.IsZero():
		return "–"
	case now.Sub(t) < 20*time.Hour && now.YearDay() == t.In(now.Location()).YearDay():
		return t.In(now.Location()).Format("15:04")
	}
	return t.In(now.Location()).Format("2 Jan 2006, 15:04")
}

// secondsText says a latency.
func secondsText(s float64) string {
	switch {
	case s <= 0:
		return "0 ms"
	case s < 0.001:
		return fmt.Sprintf("%.0f µs", s*1e6)
	case s < 0.01:
		return fmt.Sprintf("%.1f ms", s*1e3)
	case s < 1:
		return fmt.Sprintf("%.0f ms", s*1e3)
	}
	return fmt.Sprintf("%.1f s", s)
}

// clip bounds a text that others wrote, so that no name makes the page long.
func clip(s string, runes int) string {
	if len(s) <= runes || utf8.RuneCountInString(s) <= runes {
		return s
	}
	n := 0
	for i := range s {
		if n == runes-1 {
			return s[:i] + "…"
		}
		n++
	}
	return s
}

// short leaves both ends of an identifier: what people compare.
func short(id string) string {
	if len(id) <= 20 {
		return id
	}
	return id[:9] + "…" + id[len(id)-7:]
}
