package daemon

import (
	"encoding"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// envPrefix begins the environment variables that stand for keys of the configuration:
// egress.url is IPFSCLOUD_EGRESS_URL.
const envPrefix = "IPFSCLOUD_"

// leaf is one key of the configuration.
type leaf struct {
	key   string // with its section: "egress.url"
	value reflect.Value
}

func envName(key string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// leaves are all keys, in the order of the file.
func (c *Config) leaves() []leaf {
	var out []leaf
	var walk func(prefix string, v reflect.Value)
	walk = func(prefix string, v reflect.Value) {
		for i := range v.NumField() {
			key := prefix + v.Type().Field(i).Tag.Get("toml")
			f := v.Field(i)
			if f.Kind() == reflect.Map {
				continue // drives: the same keys again
			}
			if _, text := f.Addr().Interface().(encoding.TextUnmarshaler); f.Kind() == reflect.Struct && !text {
				walk(key+".", f)
				continue
			}
			out = append(out, leaf{key, f})
		}
	}
	walk("", reflect.ValueOf(c).Elem())
	return out
}

func (c *Config) keys() []string {
	var out []string
	for _, l := range c.leaves() {
		out = append(out, l.key)
	}
	return out
}

// fromEnvironment takes over what the environment says, and returns which keys that was.
func (c *Config) fromEnvironment(lookup func(string) (string, bool)) (map[string]bool, error) {
	set := map[string]bool{}
	for _, l := range c.leaves() {
		text, ok := lookup(envName(l.key))
		if !ok {
			continue
		}
		if err := l.parse(text); err != nil {
			return set, fmt.Errorf("%w: %s: %w", ErrConfig, envName(l.key), err)
		}
		set[l.key] = true
	}
	return set, nil
}

// parse reads a value as a shell has it: lists by commas.
func (l leaf) parse(s string) error {
	if u, ok := l.value.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(s))
	}
	switch l.value.Kind() {
	case reflect.String:
		l.value.SetString(s)
	case reflect.Bool:
		b, err := strconv.ParseBool(s)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", s)
		}
		l.value.SetBool(b)
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return fmt.Errorf("%q is no number", s)
		}
		l.value.SetInt(n)
	case reflect.Uint64:
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return fmt.Errorf("%q is no number", s)
		}
		l.value.SetUint(n)
	case reflect.Slice:
		parts := []string{}
		for _, p := range strings.Split(s, ",") {
			if p = strings.TrimSpace(p); p != "" {
				parts = append(parts, p)
			}
		}
		l.value.Set(reflect.ValueOf(parts))
	default:
		return fmt.Errorf("a %s cannot be set so", l.value.Kind())
	}
	return nil
}

// Setting is one key of the effective configuration.
type Setting struct {
	Key   string `json:"key"`
	Value any    `json:"value"`
	From  string `json:"from"` // "default", "file", "drive.NAME" or "environment"
}

// TOML is the value as the file has it.
func (s Setting) TOML() string {
	switch v := s.Value.(type) {
	case duration:
		return strconv.Quote(v.String())
	case string:
		return strconv.Quote(v)
	case []string:
		quoted := make([]string, len(v))
		for i := range v {
			quoted[i] = strconv.Quote(v[i])
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	}
	return fmt.Sprint(s.Value)
}

// Settings are the effective values of all keys, and where each comes from.
func (h Home) Settings() ([]Setting, error) {
	c, err := h.LoadConfig()
	if err != nil {
		return nil, err
	}
	scratch := DefaultConfig()
	env, err := scratch.fromEnvironment(os.LookupEnv)
	if err != nil {
		return nil, err
	}
	var file toml.MetaData
	if b, err := safefile.ReadNamed(h.Config, configMax); err == nil {
		if file, err = toml.Decode(string(b), &scratch); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrConfig, err)
		}
	}
	var out []Setting
	for _, l := range c.leaves() {
		s := Setting{Key: l.key, Value: l.value.Interface(), From: "default"}
		key := strings.Split(l.key, ".")
		switch {
		case env[l.key]:
			s.From = "environment"
		case h.Drive != "" && file.IsDefined(append([]string{"drive", h.Drive}, key...)...):
			s.From = "drive." + h.Drive
		case h.Drive != "" && l.key == "mountpoint":
		case file.IsDefined(key...):
			s.From = "file"
		}
		out = append(out, s)
	}
	return out, nil
}

// CheckConfig reads a file as a start would, without the environment.
func CheckConfig(path string) error {
	b, err := safefile.ReadNamed(path, configMax)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	c, err := decodeConfig(path, string(b), "")
	if err != nil {
		return err
	}
	return c.check(path)
}

// nearest is the key that differs least from a wrong one, if it is near.
func nearest(wrong string, keys []string) string {
	best, least := "", 1+len(wrong)/3
	for _, k := range keys {
		if d := distance(wrong, k); d <= least {
			best, least = k, d-1
		}
	}
	return best
}

// distance counts the letters to insert, drop or change between two words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
