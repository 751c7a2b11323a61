-- The fourth format of rows only adds to the third: what is not there is empty.
UPDATE instances SET document = json_set(document, '$.format', 4);
