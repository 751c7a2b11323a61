package url2text

import (
	"bytes"
	"fmt"
	"strings"

	innertext "codeberg.org/readeck/go-readability/v2/render"
	"golang.org/x/net/html"

	"github.com/toolshed-cloud/shed/toolshed/url2text/markdown"
)

// render is the content in the form that was asked for.
func render(content *html.Node, f Format) (string, error) {
	switch f {
	case Text:
		return strings.TrimSpace(innertext.InnerText(content)), nil
	case HTML:
		var b bytes.Buffer
		if err := html.Render(&b, content); err != nil {
			return "", fmt.Errorf("%w: %w", ErrBroken, err)
		}
		return b.String(), nil
	default:
		return markdown.Render(content), nil
	}
}
