<?php
// Judges deliveries by the page's functions: a line of base64 fields in, true or false a line out.
require __DIR__ . '/snippet.php';

while (($line = fgets(STDIN)) !== false) {
    [$kind, $secret, $id, $timestamp, $signature, $now, $body] = array_map('base64_decode', explode("\t", rtrim($line, "\n")));
    $clock = $now === '' ? [] : [(float) $now];
    $verdict = match ($kind) {
        'standard' => verify_standard($secret, $id, $timestamp, $signature, $body, ...$clock),
        'timestamped' => verify_timestamped($secret, $signature, $body, ...$clock),
        'body' => verify_body($secret, $signature, $body),
    };
    echo $verdict ? "true\n" : "false\n";
}
