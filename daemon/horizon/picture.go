package horizon

import (
	"fmt"
	"html/template"
	"math"
	"strings"
)

// graphPeers is how many peers a picture can hold and still be read.
const graphPeers = 30

// peerGraph draws who sees whom, and says it in words: a full line is both ways, a dashed
// one only one way, and a peer that is down is crossed out.
func peerGraph(peers []Peer) (picture template.HTML, words string) {
	peers = first(peers, graphPeers)
	n := len(peers)
	if n == 0 {
		return "", ""
	}
	const wide, high = 440.0, 280.0
	at := func(i int) (x, y float64) {
		if n == 1 {
			return wide / 2, high / 2
		}
		a := 2*math.Pi*float64(i)/float64(n) - math.Pi/2
		return wide/2 + 130*math.Cos(a), high/2 + 96*math.Sin(a)
	}
	sees := make([]map[string]bool, n)
	for i, p := range peers {
		sees[i] = map[string]bool{}
		for _, id := range p.Sees {
			sees[i][id] = true
		}
	}
	var b strings.Builder
	var missing []string
	alive, cut := 0, 0
	top, bottom := high, 0.0
	for i := range n {
		_, y := at(i)
		top, bottom = min(top, y), max(bottom, y)
	}
	fmt.Fprintf(&b, `<svg class="graph" viewBox="0 %.1f %g %.1f" aria-hidden="true" focusable="false">`, top-38, wide, bottom-top+76)
	for i, p := range peers {
		if p.Up {
			alive++
		}
		for j := i + 1; j < n; j++ {
			q := peers[j]
			// What was seen of a peer before it died is no sight of it.
			both := p.Up && q.Up
			ij, ji := both && sees[i][q.ID], both && sees[j][p.ID]
			x1, y1 := at(i)
			x2, y2 := at(j)
			switch {
			case ij && ji:
				fmt.Fprintf(&b, `<path class="edge" d="M%.1f %.1fL%.1f %.1f"/>`, x1, y1, x2, y2)
			case ij || ji:
				fmt.Fprintf(&b, `<path class="edge half" d="M%.1f %.1fL%.1f %.1f"/>`, x1, y1, x2, y2)
			}
			if p.Up && q.Up && !(ij && ji) {
				cut++
				missing = append(missing, blind(p, q, ij, ji))
			}
		}
	}
	for i, p := range peers {
		x, y := at(i)
		class := "node"
		if !p.Up {
			class = "node down"
		}
		fmt.Fprintf(&b, `<circle class="%s" cx="%.1f" cy="%.1f" r="11"/>`, class, x, y)
		if p.Up {
			fmt.Fprintf(&b, `<path class="tick" d="M%.1f %.1fl3.5 3.5l6 -7"/>`, x-5, y+0.5)
		} else {
			fmt.Fprintf(&b, `<path class="cross" d="M%.1f %.1fl9 9m0 -9l-9 9"/>`, x-4.5, y-4.5)
		}
		lx, ly, anchor := x, y, "middle"
		switch c := math.Cos(2*math.Pi*float64(i)/float64(n) - math.Pi/2); {
		case n == 1:
			ly += 30
		case c > 0.25:
			lx, ly, anchor = x+18, y+4.5, "start"
		case c < -0.25:
			lx, ly, anchor = x-18, y+4.5, "end"
		case y < high/2:
			ly -= 19
		default:
			ly += 28
		}
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, lx, ly, anchor, template.HTMLEscapeString(clip(p.Name, 14)))
	}
	b.WriteString(`</svg>`)
	switch {
	case alive == 0:
		words = "No peer is up."
	case cut == 0 && alive == 1:
		words = "Only one peer is up."
	case cut == 0 && alive > 2:
		words = fmt.Sprintf("All %d peers that are up see each other.", alive)
	case alive == 2 && cut == 0:
		words = "Both see each other."
	default:
		words = strings.Join(first(missing, 4), " ")
		if cut > 4 {
			words += fmt.Sprintf(" And %s more.", plural(cut-4, "pair", "pairs"))
		}
	}
	return template.HTML(b.String()), words
}

// blind says who of two does not see the other.
func blind(p, q Peer, pq, qp bool) string {
	a, b := clip(p.Name, 40), clip(q.Name, 40)
	switch {
	case pq:
		return b + " does not see " + a + "."
	case qp:
		return a + " does not see " + b + "."
	}
	return a + " and " + b + " do not see each other."
}

// icon is the sign of a level or a severity: its shape says it, not only its colour.
func icon(name any) template.HTML {
	inner := map[string]string{
		"safe":    `<circle cx="12" cy="12" r="10"/><path class="ink" d="m7.5 12.4 3.1 3.1 6-6.6"/>`,
		"busy":    `<circle cx="12" cy="12" r="10"/><path class="ink" d="M12 17V7.4m-4 4 4-4 4 4"/>`,
		"care":    `<path d="M12 2.2 23 21.4H1z"/><path class="ink" d="M12 9v5.6m0 2.9v.2"/>`,
		"stop":    `<path d="M7.9 2h8.2L22 7.9v8.2L16.1 22H7.9L2 16.1V7.9z"/><path class="ink" d="M12 6.6v7m0 3.4v.2"/>`,
		"unknown": `<circle cx="12" cy="12" r="10"/><path class="ink" d="M9.2 9.6a2.9 2.9 0 1 1 4.3 2.6c-1 .6-1.5 1-1.5 2.1m0 2.9v.2"/>`,
	}
	key := fmt.Sprint(name)
	switch key {
	case Critical:
		key = "stop"
	case Warning:
		key = "care"
	case Notice:
		key = "unknown"
	}
	shape, ok := inner[key]
	if !ok {
		key, shape = "unknown", inner["unknown"]
	}
	return template.HTML(`<svg class="icon ` + key + `" viewBox="0 0 24 24" aria-hidden="true" focusable="false">` + shape + `</svg>`)
}

// faviconSVG is the sign of a level for a tab. It stands alone, so it brings its colours.
func faviconSVG(l Level) string {
	colour := map[Level]string{Safe: "#1f7a4d", Busy: "#2563b8", Care: "#b45309", Danger: "#b3261e"}[l]
	if colour == "" {
		l, colour = Unknown, "#64707d"
	}
	s := strings.Replace(string(icon(l)), "<svg ", `<svg xmlns="http://www.w3.org/2000/svg" fill="`+colour+`" `, 1)
	return strings.ReplaceAll(s, `class="ink"`, `fill="none" stroke="#fff" stroke-width="2.2" stroke-linecap="round" stroke-linejoin="round"`)
}

// dots shows copies against what is wanted; the words beside it say the same.
func dots(have, want int) template.HTML {
	if want < 1 || want > 12 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="dots" viewBox="0 0 %d 10" width="%d" height="10" aria-hidden="true" focusable="false">`, want*13, want*13)
	for i := range want {
		class := "off"
		if i < have {
			class = "on"
		}
		fmt.Fprintf(&b, `<circle class="%s" cx="%d" cy="5" r="4"/>`, class, i*13+5)
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String())
}
