package policy

import (
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/release"
)

// maxCosignatureAge bounds how old a witness's word may be.
const maxCosignatureAge = 366 * 24 * time.Hour

// log says which log vouches for releases, or in a word that none does.
func (v value) log() release.LogPolicy {
	if v.is("none") {
		return release.LogPolicy{NotRequired: true}
	}
	o := v.object()
	p := release.LogPolicy{
		Log:       o.get("key").key(checkpoint.KindLog),
		Witnesses: o.get("witnesses").witnesses(),
		MaxAge:    o.get("max_age").duration(time.Second, maxCosignatureAge),
	}
	if quorum := o.get("quorum"); quorum.is("all") {
		p.Quorum = len(p.Witnesses)
	} else {
		p.Quorum = int(quorum.number(release.MaxWitnesses))
	}
	o.end()
	return p
}

// key is a verifier key, or the file that holds one.
func (v value) key(kind checkpoint.Kind) checkpoint.Key {
	text := v.text()
	if v.f.err != nil {
		return checkpoint.Key{}
	}
	if strings.Count(text, "+") < 2 {
		text = strings.TrimSpace(string(v.opened(text)))
	}
	if v.f.err != nil {
		return checkpoint.Key{}
	}
	key, err := checkpoint.ParseKey(kind, text)
	if err != nil {
		v.failing(err)
	}
	return key
}

// witnesses are a list, or a file with a verifier key on each line.
func (v value) witnesses() (all []release.Witness) {
	if _, named := v.scalar(); named {
		return v.witnessFile()
	}
	for _, entry := range v.list(1, release.MaxWitnesses) {
		o := entry.object()
		w := release.Witness{Key: o.get("key").key(checkpoint.KindWitness)}
		if w.Label, _ = o.get("label").scalar(); !plainLabel(w.Label) {
			o.get("label").fail("is %.40q, want one word, or \"\" for none", w.Label)
		}
		o.end()
		all = append(all, w)
	}
	return all
}

func (v value) witnessFile() []release.Witness {
	text := v.opened(v.text())
	if v.f.err != nil {
		return nil
	}
	all, err := ParseWitnesses(text)
	if err != nil {
		v.failing(err)
	}
	return all
}

func plainLabel(label string) bool {
	return !strings.ContainsFunc(label, func(r rune) bool { return r <= ' ' || r > '~' })
}
