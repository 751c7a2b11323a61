package ear

// Parse is the part of Verify behind the signature.
var Parse = parse
