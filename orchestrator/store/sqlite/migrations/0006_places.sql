-- The third format of rows only adds to the second: what is not there is empty.
UPDATE instances SET document = json_set(document, '$.format', 3);
