-- The fifth format of rows only adds to the fourth: what is not there is empty.
UPDATE instances SET document = json_set(document, '$.format', 5);
