package jsonld

import (
	"errors"
	"fmt"
	"strings"

	"github.com/piprate/json-gold/ld"
)

// builtIn has the contexts that are not fetched.
type builtIn struct{}

var _ ld.DocumentLoader = builtIn{}

var errForeign = errors.New("no context is fetched")

func (builtIn) LoadDocument(address string) (*ld.RemoteDocument, error) {
	at := strings.TrimPrefix(strings.TrimPrefix(address, "https://"), "http://")
	switch strings.TrimSuffix(at, "/") {
	case "schema.org", "schema.org/docs/jsonldcontext.json", "schema.org/docs/jsonldcontext.jsonld":
		return &ld.RemoteDocument{DocumentURL: address, Document: map[string]any{"@context": schemaOrg()}}, nil
	}
	return nil, ld.NewJsonLdError(ld.LoadingRemoteContextFailed,
		fmt.Errorf("@context: %.200q is elsewhere: %w; write it into the document, or use https://schema.org", address, errForeign))
}

// schemaOrg is what a person's facts need of schema.org's context: its
// vocabulary, and which of the common properties are not texts.
func schemaOrg() map[string]any {
	const vocabulary = "http://schema.org/"
	context := map[string]any{"@vocab": vocabulary, "schema": vocabulary, "id": "@id", "type": "@type"}
	for kind, names := range map[string]string{
		"@id":                   "url sameAs image logo license mainEntityOfPage additionalType codeRepository contentUrl embedUrl thumbnailUrl",
		vocabulary + "Date":     "birthDate deathDate foundingDate dissolutionDate",
		vocabulary + "DateTime": "dateCreated dateModified datePublished startDate endDate startTime endTime uploadDate",
	} {
		for name := range strings.FieldsSeq(names) {
			context[name] = map[string]any{"@id": vocabulary + name, "@type": kind}
		}
	}
	return context
}
