// Checks an export of ours with the Go authors' own code (golang.org/x/mod/sumdb), which shares nothing with ours.
//
//	checker EXPORT-FOLDER PROOFS-FILE
//	checker https://HOST:PORT PROOFS-FILE CA-FILE VKEY-FILE
//
// The second form fetches the same files from a server, with Go's own HTTPS, as a monitor does.
//
// EXPORT-FOLDER holds checkpoint, log.vkey and tile/. PROOFS-FILE has lines of
//
//	inclusion INDEX SIZE ROOT LEAF HASH...     (base64)
//	consistency OLD NEW OLD-ROOT NEW-ROOT HASH...
//
// Built with Debian's golang-golang-x-mod-dev and GO111MODULE=off. Exit status 0: all of it is accepted.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	if len(os.Args) == 5 {
		fail(connect(os.Args[3], os.Args[4]))
	} else if len(os.Args) != 3 {
		fail(fmt.Errorf("usage: checker EXPORT-FOLDER PROOFS-FILE, or https://HOST:PORT PROOFS-FILE CA-FILE VKEY-FILE"))
	}
	tree, err := openCheckpoint(os.Args[1])
	fail(err)
	reader := tlog.TileHashReader(tree, folder(os.Args[1]))
	root, err := tlog.TreeHash(tree.N, reader)
	fail(err)
	if root != tree.Hash {
		fail(fmt.Errorf("the tiles give another root"))
	}
	entries, err := checkEntries(os.Args[1], tree, reader)
	fail(err)
	proofs, err := checkProofs(os.Args[2], tree, reader)
	fail(err)
	fmt.Printf("size %d entries %d proofs %d\n", tree.N, entries, proofs)
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "NOT ACCEPTED:", err)
		os.Exit(1)
	}
}

// client and vkey are set when the files come from a server.
var client *http.Client
var vkey string

func connect(authority, key string) error {
	pem, err := os.ReadFile(authority)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s holds no certificate", authority)
	}
	client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	vkey = key
	return nil
}

func read(root, name string) ([]byte, error) {
	if client == nil {
		return os.ReadFile(filepath.Join(root, name))
	}
	if name == "log.vkey" {
		return os.ReadFile(vkey)
	}
	answer, err := client.Get(root + "/" + name)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != 200 {
		return nil, fmt.Errorf("%s: %s", name, answer.Status)
	}
	return io.ReadAll(answer.Body)
}

// openCheckpoint verifies the note and reads its three lines.
func openCheckpoint(root string) (tlog.Tree, error) {
	var tree tlog.Tree
	key, err := read(root, "log.vkey")
	if err != nil {
		return tree, err
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(key)))
	if err != nil {
		return tree, err
	}
	message, err := read(root, "checkpoint")
	if err != nil {
		return tree, err
	}
	opened, err := note.Open(message, note.VerifierList(verifier))
	if err != nil {
		return tree, err
	}
	origin, rest, found := strings.Cut(opened.Text, "\n")
	if !found || origin != verifier.Name() {
		return tree, fmt.Errorf("the checkpoint's origin is not the key's name")
	}
	// x/mod knows one origin only; size and root are written alike.
	return tlog.ParseTree([]byte("go.sum database tree\n" + rest))
}

// folder reads tiles as C2SP names them: x/mod writes a height element, and `data` for entries.
type folder string

func (f folder) Height() int                         { return 8 }
func (f folder) SaveTiles(tiles []tlog.Tile, data [][]byte) {}
func (f folder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		data, err := read(string(f), c2spPath(tile))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

func c2spPath(tile tlog.Tile) string {
	path := strings.TrimPrefix(tile.Path(), "tile/8/")
	if tile.L == -1 {
		path = "entries/" + strings.TrimPrefix(path, "data/")
	}
	return "tile/" + path
}

// checkEntries proves each entry of each bundle to be the leaf at its place.
func checkEntries(root string, tree tlog.Tree, reader tlog.HashReader) (int64, error) {
	next := int64(0)
	for next < tree.N {
		width := tree.N - next
		if width > 256 {
			width = 256
		}
		tile := tlog.Tile{H: 8, L: -1, N: next / 256, W: int(width)}
		bundle, err := read(root, c2spPath(tile))
		if err != nil {
			return 0, err
		}
		var indexes []int64
		var leaves []tlog.Hash
		for len(bundle) > 0 {
			if len(bundle) < 2 {
				return 0, fmt.Errorf("%s ends early", c2spPath(tile))
			}
			length := int(binary.BigEndian.Uint16(bundle))
			if len(bundle) < 2+length {
				return 0, fmt.Errorf("%s ends early", c2spPath(tile))
			}
			leaves = append(leaves, tlog.RecordHash(bundle[2:2+length]))
			indexes = append(indexes, tlog.StoredHashIndex(0, next))
			bundle = bundle[2+length:]
			next++
		}
		if int64(len(leaves)) != width {
			return 0, fmt.Errorf("%s has %d entries", c2spPath(tile), len(leaves))
		}
		stored, err := reader.ReadHashes(indexes)
		if err != nil {
			return 0, err
		}
		if !reflect.DeepEqual(stored, leaves) {
			return 0, fmt.Errorf("%s does not fit the tree", c2spPath(tile))
		}
	}
	return next, nil
}

func checkProofs(path string, tree tlog.Tree, reader tlog.HashReader) (int, error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	count := 0
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if err := checkProof(strings.Fields(lines.Text()), tree, reader); err != nil {
			return 0, fmt.Errorf("line %d: %w", count+1, err)
		}
		count++
	}
	return count, lines.Err()
}

func checkProof(fields []string, tree tlog.Tree, reader tlog.HashReader) error {
	if len(fields) < 5 {
		return fmt.Errorf("too few fields")
	}
	a, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return err
	}
	b, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil {
		return err
	}
	var hashes []tlog.Hash
	for _, field := range fields[3:] {
		hash, err := tlog.ParseHash(field)
		if err != nil {
			return err
		}
		hashes = append(hashes, hash)
	}
	proof := hashes[2:]
	var own []tlog.Hash
	switch fields[0] {
	case "inclusion":
		if err := tlog.CheckRecord(proof, b, hashes[0], a, hashes[1]); err != nil {
			return err
		}
		if b == tree.N {
			own, err = tlog.ProveRecord(b, a, reader)
		} else {
			own = proof
		}
	case "consistency":
		if err := tlog.CheckTree(proof, b, hashes[1], a, hashes[0]); err != nil {
			return err
		}
		if b == tree.N {
			own, err = tlog.ProveTree(b, a, reader)
		} else {
			own = proof
		}
	default:
		return fmt.Errorf("unknown kind of proof")
	}
	if err != nil {
		return err
	}
	if len(own) != len(proof) || (len(own) > 0 && !reflect.DeepEqual(own, append([]tlog.Hash(nil), proof...))) {
		return fmt.Errorf("x/mod makes another proof")
	}
	return nil
}
