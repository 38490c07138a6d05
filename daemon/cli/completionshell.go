package cli

import (
	"fmt"
	"strings"
)

// The scripts are alike. Each finds what stands before the cursor: the words that lead to
// a place in the table, and an option that wants a value. Then it offers what the table
// has there. None runs the program.

const completionHead = "# Made by `ipfscloud completion`.\n"

// cases are the cases that bash and zsh share, as lines of a case statement.
type cases struct {
	leads  strings.Builder // words that lead on to another place
	values strings.Builder // options that want a value
	offers strings.Builder // what there is to choose at a place, or for an option
	flags  strings.Builder // the options of a command
}

// shellCases writes them. offer writes how a shell sets what there is to choose, and flags
// how it sets the options.
func shellCases(all []completion, offer func([]choice) string, flags func([]option) string) *cases {
	var c cases
	for _, place := range all {
		names, _ := words(place.next)
		for _, w := range names {
			fmt.Fprintf(&c.leads, "\t\t\t%q) at=%q ;;\n", place.path+" "+w, strings.TrimSpace(place.path+" "+w))
		}
		if offered := offer(place.next); offered != "" {
			fmt.Fprintf(&c.offers, "\t%q) %s ;;\n", place.path, offered)
		}
		if len(place.flags) == 0 || strings.Contains(place.path, " ") {
			continue // its options are those of its command
		}
		fmt.Fprintf(&c.flags, "\t%q) %s ;;\n", place.path, flags(place.flags))
		for _, f := range place.flags {
			if f.value == "" {
				continue
			}
			name := place.path + " " + f.dash
			fmt.Fprintf(&c.values, "\t\t\t%q) value=%q ;;\n", name, name)
			if offered := offer(f.values()); offered != "" {
				fmt.Fprintf(&c.offers, "\t%q) %s ;;\n", name, offered)
			}
		}
	}
	return &c
}

func bashCompletion(all []completion) string {
	c := shellCases(all, func(cs []choice) string {
		names, kind := words(cs)
		var out []string
		if len(names) > 0 {
			out = append(out, fmt.Sprintf("words=%q", strings.Join(names, " ")))
		}
		if kind != "" {
			out = append(out, fmt.Sprintf("kind=%q", kind))
		}
		return strings.Join(out, "; ")
	}, func(flags []option) string {
		dashes := []string{}
		for _, f := range flags {
			dashes = append(dashes, f.dash)
		}
		return fmt.Sprintf("flags=%q", strings.Join(dashes, " "))
	})
	return completionHead + `_ipfscloud() {
	local cur=${COMP_WORDS[COMP_CWORD]} at='' value='' words='' flags='' kind='' w i
	for ((i = 1; i < COMP_CWORD; i++)); do
		w=${COMP_WORDS[i]}
		if [[ $w == = ]]; then # --flag=value: bash splits it
			continue
		elif [[ $value ]]; then
			value=''
		elif [[ $w == -* ]]; then
			case "${at%% *} $w" in
` + c.values.String() + `			esac
		else
			case "$at $w" in
` + c.leads.String() + `			esac
		fi
	done
	[[ $cur != = ]] || cur=''
	case "${value:-$at}" in
` + c.offers.String() + `	esac
	COMPREPLY=()
	if [[ $cur == -* && ! $value ]]; then
		case "${at%% *}" in
` + c.flags.String() + `		esac
		mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$cur")
		return
	fi
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
	case $kind in
	@file) compopt -o filenames; mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$cur") ;;
	@dir) compopt -o filenames; mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -d -- "$cur") ;;
	esac
}
complete -F _ipfscloud ipfscloud
`
}

func zshCompletion(all []completion) string {
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
	list := func(name, text string) string {
		name = strings.ReplaceAll(name, ":", `\:`)
		if text == "" {
			return quote(name)
		}
		return quote(name + ":" + text)
	}
	c := shellCases(all, func(cs []choice) string {
		var out, choices []string
		for _, c := range cs {
			if strings.HasPrefix(c.word, "@") {
				out = append(out, "kind="+c.word)
				continue
			}
			choices = append(choices, list(c.word, c.text))
		}
		if len(choices) > 0 {
			out = append(out, "choices=("+strings.Join(choices, " ")+")")
		}
		return strings.Join(out, "; ")
	}, func(flags []option) string {
		var dashes []string
		for _, f := range flags {
			dashes = append(dashes, list(f.dash, f.text))
		}
		return "flags=(" + strings.Join(dashes, " ") + ")"
	})
	return "#compdef ipfscloud\n" + completionHead + `_ipfscloud() {
	local cur=${words[CURRENT]} at= value= kind= w i
	local -a choices flags
	for ((i = 2; i < CURRENT; i++)); do
		w=${words[i]}
		if [[ -n $value ]]; then
			value=''
		elif [[ $w == -* ]]; then
			case "${at%% *} $w" in
` + c.values.String() + `			esac
		else
			case "$at $w" in
` + c.leads.String() + `			esac
		fi
	done
	case "${value:-$at}" in
` + c.offers.String() + `	esac
	if [[ $cur == -* && -z $value ]]; then
		case "${at%% *}" in
` + c.flags.String() + `		esac
		_describe -o option flags
		return
	fi
	(( ${#choices} )) && _describe value choices
	case $kind in
	@file) _files ;;
	@dir) _files -/ ;;
	esac
}
_ipfscloud "$@"
`
}

func fishCompletion(all []completion) string {
	quote := func(s string) string {
		return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
	}
	var leads, values, lines strings.Builder
	for _, c := range all {
		names, kind := words(c.next)
		for _, w := range names {
			fmt.Fprintf(&leads, "            case %s\n                set at %s\n", quote(c.path+" "+w), quote(strings.TrimSpace(c.path+" "+w)))
		}
		where := "-n " + quote("__ipfscloud_at "+quote(c.path))
		for _, n := range c.next {
			if strings.HasPrefix(n.word, "@") {
				continue
			}
			fmt.Fprintf(&lines, "complete -c ipfscloud %s -a %s", where, quote(n.word))
			if n.text != "" {
				fmt.Fprintf(&lines, " -d %s", quote(n.text))
			}
			lines.WriteString("\n")
		}
		switch kind {
		case takesFile:
			fmt.Fprintf(&lines, "complete -c ipfscloud %s -F\n", where)
		case takesDir:
			fmt.Fprintf(&lines, "complete -c ipfscloud %s -a '(__fish_complete_directories)'\n", where)
		}
		if c.path == "" || strings.Contains(c.path, " ") {
			continue
		}
		for _, f := range c.flags {
			if f.value != "" {
				fmt.Fprintf(&values, "            case %s\n                set value 1\n", quote(c.path+" "+f.dash))
			}
			name := "-s " + strings.TrimPrefix(f.dash, "-")
			if strings.HasPrefix(f.dash, "--") {
				name = "-l " + strings.TrimPrefix(f.dash, "--")
			}
			fmt.Fprintf(&lines, "complete -c ipfscloud -n %s %s -d %s%s\n", quote("__ipfscloud_in "+c.path), name, quote(f.text), fishValue(&f))
		}
	}
	return completionHead + `function __ipfscloud_place
    set -l at ''
    set -l value ''
    set -l tokens (commandline -opc)
    for w in $tokens[2..-1]
        if test -n "$value"
            set value ''
        else if string match -q -- '-*' $w
            set -l command (string split ' ' -- $at)[1]
            switch "$command $w"
` + values.String() + `            end
        else
            switch "$at $w"
` + leads.String() + `            end
        end
    end
    echo -- $at
end
function __ipfscloud_at
    test (__ipfscloud_place) = "$argv[1]"
end
function __ipfscloud_in
    test (string split ' ' -- (__ipfscloud_place))[1] = "$argv[1]"
end
complete -c ipfscloud -f
` + lines.String()
}

func fishValue(o *option) string {
	if o.value == "" {
		return ""
	}
	names, kind := words(o.values())
	switch {
	case kind == takesFile:
		return " -rF"
	case kind == takesDir:
		return " -x -a '(__fish_complete_directories)'"
	case len(names) > 0:
		return " -x -a '" + strings.Join(names, " ") + "'"
	}
	return " -x"
}
