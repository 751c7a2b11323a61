package policy

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
)

func (v value) tier() (t attest.Tier) {
	if text := v.text(); v.f.err == nil {
		if err := t.UnmarshalText([]byte(text)); err != nil {
			v.failing(err)
		}
	}
	return t
}

// duration is a time as Go writes it, from least to most.
func (v value) duration(least, most time.Duration) time.Duration {
	text := v.text()
	if v.f.err != nil {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < least || d > most {
		v.fail("is %.40q, want a time from %s to %s, such as 90s", text, least, most)
		return 0
	}
	return d
}

// number is a whole number up to limit, hexadecimal behind 0x.
func (v value) number(limit uint64) uint64 {
	text := v.text()
	if v.f.err != nil {
		return 0
	}
	n, err := strconv.ParseUint(text, 0, 64)
	if err != nil || n > limit {
		v.fail("is %.40q, want a number from 0 to %d", text, limit)
		return 0
	}
	return n
}

// word is one of a few, by what each means.
func word[T any](v value, words []named[T]) (meaning T) {
	text := v.text()
	if v.f.err != nil {
		return meaning
	}
	i := slices.IndexFunc(words, func(w named[T]) bool { return w.name == text })
	if i < 0 {
		v.fail("is %.40q, want %s", text, strings.Join(names(words), ", "))
		return meaning
	}
	return words[i].meaning
}

type named[T any] struct {
	name    string
	meaning T
}

func names[T any](words []named[T]) (all []string) {
	for _, w := range words {
		all = append(all, w.name)
	}
	return all
}

// bits are a list of words, joined.
func bits[T ~uint64](v value, words []named[T]) (set T) {
	for _, entry := range v.list(0, len(words)) {
		set |= word(entry, words)
	}
	return set
}

func (v value) treatment() chain.Treatment {
	return word(v, []named[chain.Treatment]{
		{"required", chain.Required}, {"required-of-root", chain.RequiredOfRoot},
		{"required-where-named", chain.RequiredWhereNamed}, {"not-published", chain.NotPublished},
	})
}

// accepted is whether something that is less than it could be is taken.
func (v value) accepted() *bool {
	return new(word(v, []named[bool]{{"accepted", true}, {refused, false}}))
}

func (v value) yes() bool { return word(v, []named[bool]{{"true", true}, {"false", false}}) }
