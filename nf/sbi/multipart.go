package sbi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/textproto"
	"strings"
)

// Media types (TS 29.500 clause 5.2.3; TS 29.502 clause 6.1.2.4).
const (
	typeJSON    = "application/json"
	typeProblem = "application/problem+json"
	typeHAL     = "application/3gppHal+json"
	typeRelated = "multipart/related"
	typeN1      = "application/vnd.3gpp.5gnas"
	typeN2      = "application/vnd.3gpp.ngap"
)

// Content IDs we give to binary parts.
const (
	contentN1 = "n1msg"
	contentN2 = "n2msg"
)

// maxParts bounds the parts of a message: JSON, N1, N2 and one extension.
const maxParts = 4

var (
	errMediaType = errors.New("neither JSON nor multipart/related")
	errParts     = errors.New("malformed multipart/related")
)

// refToBinary is TS 29.571 type RefToBinaryData.
type refToBinary struct {
	ContentID string `json:"contentId"`
}

// message is the content of a request or response: a JSON document and the binary
// parts it refers to. A nil JSON is an empty content.
type message struct {
	json   []byte
	binary map[string][]byte // by Content-ID
}

// part returns the binary part that ref names; a nil ref names none. A dangling
// reference is an error.
func (m *message) part(ref *refToBinary) ([]byte, error) {
	if ref == nil {
		return nil, nil
	}
	b, ok := m.binary[ref.ContentID]
	if !ok {
		return nil, fmt.Errorf("no binary part with Content-ID %.60q", ref.ContentID)
	}
	return b, nil
}

// binaryPart is a part to be sent; one with no data is left out.
type binaryPart struct {
	id, mediaType string
	data          []byte
}

// encode renders a document with its binary parts: as plain JSON of media type
// jsonType if no part has data, else as multipart/related with the JSON as root
// (RFC 2387).
func encode(jsonType string, doc []byte, parts ...binaryPart) (contentType string, body []byte, err error) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	add := func(mediaType, id string, data []byte) error {
		h := textproto.MIMEHeader{"Content-Type": {mediaType}}
		if id != "" {
			h.Set("Content-Id", id)
		}
		p, err := w.CreatePart(h)
		if err != nil {
			return err
		}
		_, err = p.Write(data)
		return err
	}
	related := false
	for _, p := range parts {
		if p.data == nil {
			continue
		}
		if !related {
			related = true
			if err := add(jsonType, "", doc); err != nil {
				return "", nil, err
			}
		}
		if err := add(p.mediaType, p.id, p.data); err != nil {
			return "", nil, err
		}
	}
	if !related {
		return jsonType, doc, nil
	}
	if err := w.Close(); err != nil {
		return "", nil, err
	}
	return mime.FormatMediaType(typeRelated, map[string]string{"boundary": w.Boundary(), "type": jsonType}), b.Bytes(), nil
}

// decode reads a content. body has been limited by the caller, whose read errors
// come through. An empty body gives an empty message whatever its type.
func decode(contentType string, body io.Reader) (*message, error) {
	mediaType, params, err := mime.ParseMediaType(contentType)
	if contentType != "" && err != nil {
		return nil, fmt.Errorf("%w: %v", errMediaType, err)
	}
	if mediaType == typeRelated {
		return decodeRelated(params, body)
	}
	b, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	if len(b) == 0 {
		return &message{}, nil
	}
	if !isJSON(mediaType) {
		return nil, fmt.Errorf("%w: %.60q", errMediaType, contentType)
	}
	return &message{json: b}, nil
}

func isJSON(mediaType string) bool {
	return mediaType == typeJSON || strings.HasSuffix(mediaType, "+json")
}

// decodeRelated reads multipart/related. The root is the part that the parameter
// start names, else the first.
func decodeRelated(params map[string]string, body io.Reader) (*message, error) {
	if params["boundary"] == "" {
		return nil, fmt.Errorf("%w: no boundary", errParts)
	}
	m := &message{binary: make(map[string][]byte)}
	start := trimID(params["start"])
	r := multipart.NewReader(body, params["boundary"])
	for n := 0; ; n++ {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errParts, err)
		}
		if n == maxParts {
			return nil, fmt.Errorf("%w: more than %d parts", errParts, maxParts)
		}
		b, err := io.ReadAll(p)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errParts, err)
		}
		id := trimID(p.Header.Get("Content-Id"))
		if m.json == nil && (start == "" || start == id) {
			mediaType, _, err := mime.ParseMediaType(p.Header.Get("Content-Type"))
			if err != nil || !isJSON(mediaType) {
				return nil, fmt.Errorf("%w: its root is not JSON", errParts)
			}
			m.json = b
			continue
		}
		if id == "" {
			return nil, fmt.Errorf("%w: part %d has no Content-ID", errParts, n+1)
		}
		if _, twice := m.binary[id]; twice {
			return nil, fmt.Errorf("%w: Content-ID %.60q is there twice", errParts, id)
		}
		m.binary[id] = b
	}
	if m.json == nil {
		return nil, fmt.Errorf("%w: no root part", errParts)
	}
	return m, nil
}

// trimID removes the angle brackets of RFC 2045 that some send and some do not.
func trimID(id string) string {
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(id), "<"), ">")
}
