package stratum

import (
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"unicode/utf8"

	"qcitycoin.org/qcity/miner/work"
)

// Every Append function adds exactly one line, line end included.

// AppendResult adds a successful answer; result is raw JSON.
func AppendResult(dst []byte, id Raw, result string) []byte {
	dst = append(dst, `{"id":`...)
	dst = append(dst, id...)
	dst = append(dst, `,"result":`...)
	dst = append(dst, result...)
	return append(dst, ",\"error\":null}\n"...)
}

// AppendError adds a refusal: [code, reason, null], as miners expect it.
func AppendError(dst []byte, id Raw, e *Error) []byte {
	dst = append(dst, `{"id":`...)
	dst = append(dst, id...)
	dst = append(dst, `,"result":null,"error":[`...)
	dst = strconv.AppendInt(dst, int64(e.Code), 10)
	dst = append(dst, ',')
	dst = AppendString(dst, e.Reason)
	return append(dst, ",null]}\n"...)
}

// AppendString adds s as a JSON string. Bytes that are no UTF-8 become U+FFFD.
func AppendString(dst []byte, s string) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		case c < utf8.RuneSelf:
			dst = append(dst, c)
		default:
			r, size := utf8.DecodeRuneInString(s[i:])
			dst = utf8.AppendRune(dst, r)
			i += size
			continue
		}
		i++
	}
	return append(dst, '"')
}

// AppendSetDifficulty adds mining.set_difficulty.
func AppendSetDifficulty(dst []byte, difficulty float64) []byte {
	dst = append(dst, `{"id":null,"method":"mining.set_difficulty","params":[`...)
	dst = AppendDifficulty(dst, difficulty)
	return append(dst, "]}\n"...)
}

// AppendSetVersionMask adds mining.set_version_mask (BIP 310).
func AppendSetVersionMask(dst []byte, mask uint32) []byte {
	dst = append(dst, `{"id":null,"method":"mining.set_version_mask","params":["`...)
	dst = AppendUint32(dst, mask)
	return append(dst, "\"]}\n"...)
}

// SessionIDSize is the length of a session id in hex digits: it is the first
// four bytes of extranonce1, which are unique.
const SessionIDSize = 2 * work.PrefixSize

// AppendSubscribeResult adds the answer to mining.subscribe: the subscriptions,
// extranonce1, and the size of the extranonce2 the client chooses, which is the
// rest of the extranonce. The session id that a client may resume with is the
// beginning of extranonce1.
func AppendSubscribeResult(dst []byte, id Raw, extranonce1 []byte) []byte {
	session := extranonce1[:work.PrefixSize]
	dst = append(dst, `{"id":`...)
	dst = append(dst, id...)
	dst = append(dst, `,"result":[[["mining.set_difficulty","`...)
	dst = hex.AppendEncode(dst, session)
	dst = append(dst, `"],["mining.notify","`...)
	dst = hex.AppendEncode(dst, session)
	dst = append(dst, `"]],`...)
	dst = appendExtranonce(dst, extranonce1)
	return append(dst, "],\"error\":null}\n"...)
}

// AppendSetExtranonce adds mining.set_extranonce. It holds from the next job on.
func AppendSetExtranonce(dst, extranonce1 []byte) []byte {
	dst = append(dst, `{"id":null,"method":"mining.set_extranonce","params":[`...)
	dst = appendExtranonce(dst, extranonce1)
	return append(dst, "]}\n"...)
}

// appendExtranonce adds extranonce1 and the size of extranonce2.
func appendExtranonce(dst, extranonce1 []byte) []byte {
	dst = append(dst, '"')
	dst = hex.AppendEncode(dst, extranonce1)
	dst = append(dst, `",`...)
	return strconv.AppendInt(dst, int64(work.ExtranonceSize-len(extranonce1)), 10)
}

// AppendShowMessage adds client.show_message, a sentence for the miner's owner.
func AppendShowMessage(dst []byte, text string) []byte {
	dst = append(dst, `{"id":null,"method":"client.show_message","params":[`...)
	dst = AppendString(dst, text)
	return append(dst, "]}\n"...)
}

// AppendReconnect adds client.reconnect. It names no host: cgminer, and most
// firmware with it, refuses to be sent anywhere but where it is.
func AppendReconnect(dst []byte) []byte {
	return append(dst, `{"id":null,"method":"client.reconnect","params":[]}`+"\n"...)
}

// AppendGetVersion adds client.get_version, which cgminer and its descendants
// answer with their name. The id is a number, as cgminer echoes no other.
func AppendGetVersion(dst []byte, id int) []byte {
	dst = append(dst, `{"id":`...)
	dst = strconv.AppendInt(dst, int64(id), 10)
	return append(dst, `,"method":"client.get_version","params":[]}`+"\n"...)
}

// AppendNotifyBody adds the part of mining.notify that is the same for every
// session (previous hash to compact target). It is not a line by itself:
// AppendNotify puts it into one.
func AppendNotifyBody(dst []byte, job *work.Job) []byte {
	dst = append(dst, '"')
	dst = appendPrevHash(dst, job.PrevBlock)
	dst = append(dst, `","`...)
	dst = hex.AppendEncode(dst, job.CoinbasePrefix)
	dst = append(dst, `","`...)
	dst = hex.AppendEncode(dst, job.CoinbaseSuffix)
	dst = append(dst, `",[`...)
	for i, sibling := range job.MerkleBranch {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '"')
		dst = hex.AppendEncode(dst, sibling[:])
		dst = append(dst, '"')
	}
	dst = append(dst, `],"`...)
	dst = AppendUint32(dst, job.Version)
	dst = append(dst, `","`...)
	dst = AppendUint32(dst, job.Bits)
	return append(dst, '"')
}

// AppendNotify adds mining.notify. The job id goes out as hex without leading
// zeros: short, and every firmware takes it as an opaque string.
func AppendNotify(dst []byte, jobID uint32, body []byte, ntime uint32, clean bool) []byte {
	dst = append(dst, `{"id":null,"method":"mining.notify","params":["`...)
	dst = strconv.AppendUint(dst, uint64(jobID), 16)
	dst = append(dst, `",`...)
	dst = append(dst, body...)
	dst = append(dst, `,"`...)
	dst = AppendUint32(dst, ntime)
	dst = append(dst, `",`...)
	dst = strconv.AppendBool(dst, clean)
	return append(dst, "]}\n"...)
}

// AppendUint32 adds v as 8 big-endian hex digits, without quotes.
func AppendUint32(dst []byte, v uint32) []byte {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], v)
	return hex.AppendEncode(dst, b[:])
}

// appendPrevHash adds a block hash in Stratum's own order: the internal bytes
// with each group of four reversed. It comes from the first getwork miners,
// which swapped every word, and all firmware undoes it.
func appendPrevHash(dst []byte, hash [32]byte) []byte {
	for i := 0; i < len(hash); i += 4 {
		dst = AppendUint32(dst, binary.LittleEndian.Uint32(hash[i:]))
	}
	return dst
}
